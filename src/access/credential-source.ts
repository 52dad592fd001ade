/** Credentials for registries, and the function that returns them. */

/** A user name and password, or the refresh token that `docker login` got instead of one. */
export type Credentials = { readonly username: string; readonly password: string } | { readonly identityToken: string };

/**
 * Returns the credentials for a registry (`docker.io`, `localhost:5000`) and for a repository, where those of the
 * registry differ by repository; null when there are none. Called again whenever a token is needed.
 */
export type CredentialSource = (host: string, repository?: string) => Promise<Credentials | null>;
