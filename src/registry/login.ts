/** Login and logout: credentials are verified first, and then stored where docker, podman and skopeo look for them. */

import { AuthFile, nameOf } from '../access/auth-file.ts';
import { type AuthFileOptions, authFiles, dockerConfigFile } from '../access/credentials.ts';
import { isLacunaError, LacunaError } from '../errors.ts';
import { parseReference } from '../image/reference.ts';
import { discard } from './http/transport.ts';
import { openRegistryHttp } from './open.ts';
import type { SignalOptions, StoreOptions } from './store.ts';

/** Options of {@link login} and {@link logout}. */
export interface LoginOptions
  extends Omit<StoreOptions, 'credentials' | 'create' | 'foreignLayers'>,
    AuthFileOptions,
    SignalOptions {}

/** A stored login. */
export interface LoginResult {
  /** `HOST[:PORT]`, or a part of a registry: `HOST/NAMESPACE`. */
  readonly registry: string;
  /** Path of the file. It may name a credential helper that has the password. */
  readonly file: string;
}

interface RegistryScope {
  readonly host: string;
  /** Repository or namespace; null: the whole registry. */
  readonly repository: string | null;
}

/**
 * Verifies `username` and `password` at the registry and stores them. UNAUTHORIZED, and nothing stored, if it refuses.
 */
export async function login(
  registry: string,
  { username, password }: { readonly username: string; readonly password: string },
  options: LoginOptions = {},
): Promise<LoginResult> {
  const scope = parseScope(registry);
  if (username === '' || username.includes(':'))
    throw usage('a user name must not be empty or contain a colon', registry);
  await verify(scope, { username, password }, options);
  const file = await fileFor(scope, options);
  await file.store(scope.host, scope.repository, username, password);
  return { registry: nameOfScope(scope), file: file.path };
}

/** Removes the login of `registry`; null: all logins. Resolves with those removed; NOT_FOUND when there are none. */
export async function logout(registry: string | null, options: AuthFileOptions = {}): Promise<LoginResult[]> {
  const removed: LoginResult[] = [];
  for (const path of authFiles(options)) {
    const names = registry === null ? (await AuthFile.read(path)).names : [registry];
    const scopes = registry === null ? names.map(scopeOf).filter((scope) => scope !== null) : names.map(parseScope);
    for (const scope of scopes) {
      const isRemoved = await (await AuthFile.read(path)).remove(scope.host, scope.repository);
      if (isRemoved) removed.push({ registry: nameOfScope(scope), file: path });
    }
  }
  if (removed.length > 0) return removed;
  throw new LacunaError('NOT_FOUND', registry === null ? 'there are no stored logins' : 'not logged in', {
    op: 'log out',
    ...(registry === null ? {} : { subject: registry }),
  });
}

async function verify(
  { host, repository }: RegistryScope,
  credentials: { readonly username: string; readonly password: string },
  options: LoginOptions,
): Promise<void> {
  const store = { ...options, credentials: async () => credentials };
  const { http, transport } = await openRegistryHttp(host, store, repository ?? undefined);
  const scopes = repository === null ? [] : [`repository:${repository}:pull`];
  const context = { op: 'log in', subject: host, signal: options.signal ?? null };
  try {
    await discard(await http.send({ ...context, method: 'GET', url: http.base, scopes, expect: [200] }));
  } catch (error) {
    if (!isLacunaError(error) || error.code !== 'UNAUTHORIZED') throw error;
    throw new LacunaError('UNAUTHORIZED', 'the registry refused the user name or the password', {
      ...context,
      hint: 'some registries require an access token instead of the password',
    });
  } finally {
    await transport.close();
  }
}

/** The file that already has a login for this scope, since it is searched first; else docker's. */
async function fileFor({ host, repository }: RegistryScope, options: AuthFileOptions): Promise<AuthFile> {
  const paths = authFiles(options);
  if (paths.length === 1) return await AuthFile.read(paths[0]!);
  for (const path of paths) {
    const file = await AuthFile.read(path);
    if (file.has(host, repository)) return file;
  }
  return await AuthFile.read(dockerConfigFile());
}

const nameOfScope = ({ host, repository }: RegistryScope): string =>
  repository === null ? host : `${host}/${repository}`;

/** Parses `HOST[:PORT][/NAMESPACE…]`, also as a URL; null when it is anything else. */
function scopeOf(registry: string): RegistryScope | null {
  const name = nameOf(registry.replace(/^docker:\/\//, ''));
  const slash = name.indexOf('/');
  const [host, repository] = slash < 0 ? [name, null] : [name.slice(0, slash), name.slice(slash + 1)];
  try {
    const reference = parseReference(`docker://${host}/${repository ?? 'name'}`);
    const isSame = reference.transport === 'docker' && reference.host === host && reference.tag === 'latest';
    return isSame ? { host, repository } : null;
  } catch {
    return null;
  }
}

function parseScope(registry: string): RegistryScope {
  const scope = scopeOf(registry);
  // The text is not quoted: it may be a password typed in the wrong place.
  if (scope === null) throw usage('not the name of a registry', null);
  return scope;
}

const usage = (problem: string, subject: string | null): LacunaError =>
  new LacunaError('USAGE', problem, {
    op: 'log in',
    ...(subject === null ? {} : { subject }),
    hint: 'for example registry.example:5000 or docker.io',
  });
