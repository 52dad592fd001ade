/** Who knows the password for a registry. */

/** A user name and password, or the refresh token that `docker login` got instead of one. */
export type Credentials = { readonly username: string; readonly password: string } | { readonly identityToken: string };

/**
 * Credentials for a registry (`docker.io`, `localhost:5000`) and, where some are for a part of it only, a repository;
 * null = none known. Called again whenever a token is needed.
 */
export type CredentialSource = (host: string, repository?: string) => Promise<Credentials | null>;
