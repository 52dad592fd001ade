/**
 * Credentials from stored logins: the files of docker, podman and skopeo, and the helpers that these files name. Files
 * are read at each use, so a new login takes effect at once.
 */
import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { toLacunaError } from '../errors.ts';
import { AuthFile } from './auth-file.ts';
import type { CredentialSource } from './credential-source.ts';

/** Options for finding stored logins. */
export interface AuthFileOptions {
  /** The only file that is read; default: those of {@link authFiles}. */
  readonly authFile?: string;
}

/** The path of Docker's config.json: in `$DOCKER_CONFIG`, else in `~/.docker`. */
export const dockerConfigFile = (dir = process.env.DOCKER_CONFIG || join(homedir(), '.docker')): string =>
  join(dir, 'config.json');

/**
 * Paths of the files with logins, in the order in which they are searched: `$REGISTRY_AUTH_FILE` alone when it is set;
 * else `$DOCKER_CONFIG` when it is set, podman's files of this session and of this user, and docker's.
 */
export function authFiles({ authFile }: AuthFileOptions = {}): string[] {
  const {
    REGISTRY_AUTH_FILE: only,
    XDG_RUNTIME_DIR: runtime,
    XDG_CONFIG_HOME: config,
    DOCKER_CONFIG: own,
  } = process.env;
  const explicit = authFile ?? only;
  if (explicit) return [explicit];
  const session = runtime ? join(runtime, 'containers') : `/run/containers/${process.getuid?.() ?? 0}`;
  const podman = [session, join(config || join(homedir(), '.config'), 'containers')].map((dir) =>
    join(dir, 'auth.json'),
  );
  return own ? [dockerConfigFile(), ...podman] : [...podman, dockerConfigFile()];
}

/** Credentials from all files with logins. A missing file counts as empty, but is an error when `authFile` names it. */
export function storedCredentials(options: AuthFileOptions = {}): CredentialSource {
  return async (host, repository) => {
    const { authFile } = options;
    if (authFile !== undefined) {
      await access(authFile).catch((error: unknown) => {
        throw toLacunaError(error, { op: 'read credentials', subject: authFile });
      });
    }
    for (const path of authFiles(options)) {
      const credentials = await (await AuthFile.read(path)).find(host, repository ?? null);
      if (credentials !== null) return credentials;
    }
    return null;
  };
}

/** Credentials from Docker's config alone: `dir`, else `$DOCKER_CONFIG`, else `~/.docker`. A missing file has none. */
export function dockerConfigCredentials(options: { readonly dir?: string } = {}): CredentialSource {
  return async (host, repository) =>
    (await AuthFile.read(dockerConfigFile(options.dir))).find(host, repository ?? null);
}
