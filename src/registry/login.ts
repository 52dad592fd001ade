/** Logging in to a registry and out: credentials are tried first, and then kept where docker, podman and skopeo look. */

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

/** Where a login was kept. */
export interface LoginResult {
  /** `HOST[:PORT]`, or a part of one: `HOST/NAMESPACE`. */
  readonly registry: string;
  /** Path of the file; it may name a helper that has the password. */
  readonly file: string;
}

interface Place {
  readonly host: string;
  /** Null: the whole registry. */
  readonly repository: string | null;
}

/** Tries `username` and `password` at the registry and keeps them. UNAUTHORIZED, and nothing kept, when it refuses them. */
export async function login(
  registry: string,
  { username, password }: { readonly username: string; readonly password: string },
  options: LoginOptions = {},
): Promise<LoginResult> {
  const place = parsePlace(registry);
  if (username === '' || username.includes(':')) throw usage('a user name is not empty and has no colon', registry);
  await verify(place, { username, password }, options);
  const file = await fileFor(place, options);
  await file.store(place.host, place.repository, username, password);
  return { registry: nameOfPlace(place), file: file.path };
}

/** Forgets the login of `registry`, null: all of them. Resolves with what was forgotten; NOT_FOUND when that is nothing. */
export async function logout(registry: string | null, options: AuthFileOptions = {}): Promise<LoginResult[]> {
  const forgotten: LoginResult[] = [];
  for (const path of authFiles(options)) {
    const names = registry === null ? (await AuthFile.read(path)).names : [registry];
    const places = registry === null ? names.map(placeOf).filter((place) => place !== null) : names.map(parsePlace);
    for (const place of places) {
      const isRemoved = await (await AuthFile.read(path)).remove(place.host, place.repository);
      if (isRemoved) forgotten.push({ registry: nameOfPlace(place), file: path });
    }
  }
  if (forgotten.length > 0) return forgotten;
  throw new LacunaError('NOT_FOUND', registry === null ? 'no logins are kept' : 'not logged in', {
    op: 'log out',
    ...(registry === null ? {} : { subject: registry }),
  });
}

async function verify(
  { host, repository }: Place,
  credentials: { readonly username: string; readonly password: string },
  options: LoginOptions,
): Promise<void> {
  const store = { ...options, credentials: async () => credentials };
  const { http, transport } = await openRegistryHttp(host, store, repository ?? undefined);
  const scopes = repository === null ? [] : [`repository:${repository}:pull`];
  const purpose = { op: 'log in', subject: host, signal: options.signal ?? null };
  try {
    await discard(await http.send({ ...purpose, method: 'GET', url: http.base, scopes, expect: [200] }));
  } catch (error) {
    if (!isLacunaError(error) || error.code !== 'UNAUTHORIZED') throw error;
    throw new LacunaError('UNAUTHORIZED', 'the registry refused the user name or the password', {
      ...purpose,
      hint: 'some registries want a token of the account instead of its password',
    });
  } finally {
    await transport.close();
  }
}

/** The file that has a login for this place already, since it would be found first; else docker's. */
async function fileFor({ host, repository }: Place, options: AuthFileOptions): Promise<AuthFile> {
  const paths = authFiles(options);
  if (paths.length === 1) return await AuthFile.read(paths[0]!);
  for (const path of paths) {
    const file = await AuthFile.read(path);
    if (file.has(host, repository)) return file;
  }
  return await AuthFile.read(dockerConfigFile());
}

const nameOfPlace = ({ host, repository }: Place): string => (repository === null ? host : `${host}/${repository}`);

/** `HOST[:PORT][/NAMESPACE…]`, also as a URL; null when it is something else. */
function placeOf(registry: string): Place | null {
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

function parsePlace(registry: string): Place {
  const place = placeOf(registry);
  // Not quoted: it may be a password that slipped.
  if (place === null) throw usage('this is not the name of a registry', null);
  return place;
}

const usage = (problem: string, subject: string | null): LacunaError =>
  new LacunaError('USAGE', problem, {
    op: 'log in',
    ...(subject === null ? {} : { subject }),
    hint: 'for example registry.example:5000 or docker.io',
  });
