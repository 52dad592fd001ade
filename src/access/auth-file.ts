/**
 * One file of credentials: docker's config.json, or auth.json of podman and skopeo (containers-auth.json(5)), which has
 * keys for parts of a registry too. Both hold `auths`, `credHelpers` and `credsStore`; what else is in one is kept.
 */
import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { LacunaError, toLacunaError } from '../errors.ts';
import { parseSecretJson } from '../image/json.ts';
import { makeDirectory } from '../make-directory.ts';
import { readNamed, whenMissing } from '../open-file.ts';
import { CredentialHelper } from './credential-helper.ts';
import type { Credentials } from './credential-source.ts';

const OP = 'read credentials';

/** Bytes: a login is a few kilobytes at most. */
export const MAX_AUTH_FILE = 4 * 1024 * 1024;

/** How docker.io is called by docker, in its file and to helpers. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

const authEntry = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});

const authFile = z.looseObject({
  auths: z.record(z.string(), authEntry).optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});

type AuthDocument = z.infer<typeof authFile>;
type AuthEntry = z.infer<typeof authEntry>;

export class AuthFile {
  readonly path: string;
  readonly #document: AuthDocument;

  private constructor(path: string, document: AuthDocument) {
    this.path = path;
    this.#document = document;
  }

  /** A missing file is an empty one. CONFIG when it cannot be read; nothing of it is quoted, as it holds passwords. */
  static async read(path: string): Promise<AuthFile> {
    const found = readNamed(path, MAX_AUTH_FILE, { op: OP }).catch(whenMissing(null));
    const text = await found.catch((cause: unknown) => {
      throw new LacunaError('CONFIG', `${path} cannot be read`, { op: OP, subject: path, cause });
    });
    if (text === null) return new AuthFile(path, {});
    // podman and skopeo make an empty file for a login that is to come.
    const result = authFile.safeParse(text.trim() === '' ? {} : parseSecretJson(text));
    if (result.success) return new AuthFile(path, result.data);
    const where = result.error.issues[0]?.path.join('.') || 'the document';
    throw new LacunaError('CONFIG', `${path}: ${where} is not what docker login writes`, { op: OP, subject: path });
  }

  /** What it has for a repository, most special first: the repository, its namespaces, the registry. */
  async find(host: string, repository: string | null): Promise<Credentials | null> {
    const helper = this.#helperOf(host);
    const helped = helper === null ? null : await helper.get(serverOf(host));
    if (helped !== null) return helped;
    const key = this.#keysOf(host, repository)[0];
    return key === undefined ? null : this.#read(this.#document.auths![key]!, host);
  }

  /** Whether it has an entry for just this registry or part of one, however its key is written. */
  has(host: string, repository: string | null): boolean {
    return this.#own(host, repository).length > 0;
  }

  /** Registries and parts of them that have an entry. */
  get names(): string[] {
    const { auths, credHelpers } = this.#document;
    const keys = [...Object.keys(auths ?? {}).map(nameOf), ...Object.keys(credHelpers ?? {}).map(nameOf)];
    return [...new Set(keys)];
  }

  /** Stores a login with the helper that the file names for the registry, or in the file. */
  async store(host: string, repository: string | null, username: string, password: string): Promise<void> {
    const helper = this.#helperOf(host);
    if (helper !== null && repository !== null) {
      throw new LacunaError('UNSUPPORTED', 'credential helpers keep one login for a registry, not for parts of it', {
        op: 'log in',
        subject: `${host}/${repository}`,
      });
    }
    await helper?.store(serverOf(host), username, password);
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    const auths = this.#without(host, repository);
    auths[repository === null ? serverOf(host) : `${host}/${repository}`] = helper === null ? { auth } : {};
    await this.#write({ ...this.#document, auths });
  }

  /** False: there was nothing to remove. */
  async remove(host: string, repository: string | null): Promise<boolean> {
    const helper = repository === null ? this.#helperOf(host) : null;
    const isErased = (await helper?.erase(serverOf(host))) ?? false;
    if (!this.has(host, repository)) return isErased;
    await this.#write({ ...this.#document, auths: this.#without(host, repository) });
    return true;
  }

  #helperOf(host: string): CredentialHelper | null {
    const { credHelpers, credsStore } = this.#document;
    const name = credHelpers?.[serverOf(host)] ?? credHelpers?.[host] ?? credsStore;
    return name ? new CredentialHelper(name, this.path) : null;
  }

  /** Keys of `auths` whose entries are for the repository, the best first. */
  #keysOf(host: string, repository: string | null): string[] {
    const parts = repository === null ? [] : repository.split('/');
    const namespaces = parts.map((_, at) => [host, ...parts.slice(0, parts.length - at)].join('/'));
    const keys = namespaces.filter((key) => this.#hasKey(key));
    return [...keys, ...this.#own(host, null)];
  }

  #own(host: string, repository: string | null): string[] {
    const name = repository === null ? host : `${host}/${repository}`;
    const others = Object.keys(this.#document.auths ?? {}).filter((key) => key !== name && nameOf(key) === name);
    return [...(this.#hasKey(name) ? [name] : []), ...others].filter((key) => this.#hasKey(key));
  }

  #hasKey(key: string): boolean {
    const { auths } = this.#document;
    return auths !== undefined && Object.hasOwn(auths, key);
  }

  #without(host: string, repository: string | null): NonNullable<AuthDocument['auths']> {
    const own = new Set(this.#own(host, repository));
    return Object.fromEntries(Object.entries(this.#document.auths ?? {}).filter(([key]) => !own.has(key)));
  }

  #read(entry: AuthEntry, host: string): Credentials | null {
    if (entry.identitytoken) return { identityToken: entry.identitytoken };
    if (entry.auth) {
      const text = Buffer.from(entry.auth, 'base64').toString('utf8');
      const colon = text.indexOf(':');
      if (colon >= 1) {
        // Docker pads with NULs.
        return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
      }
      throw new LacunaError('CONFIG', `${this.path}: auths: the entry of ${host} is not base64 of USER:PASSWORD`, {
        op: OP,
        subject: this.path,
      });
    }
    return entry.username ? { username: entry.username, password: entry.password ?? '' } : null;
  }

  /** Renamed into place, and only its owner may read it. A link stays one. */
  async #write(document: AuthDocument): Promise<void> {
    const target = await realpath(this.path).catch(() => this.path);
    const temporary = `${target}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      await makeDirectory(dirname(target), 0o700);
      {
        await using file = await open(temporary, 'wx', 0o600);
        await file.writeFile(`${JSON.stringify(document, null, '\t')}\n`);
        await file.sync();
      }
      await rename(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw toLacunaError(error, { op: 'store credentials', subject: this.path });
    }
  }
}

/** What docker and its helpers call a registry. */
const serverOf = (host: string): string => (host === 'docker.io' ? DOCKER_HUB_KEY : host);

/** What a key of `auths` is for: keys may be URLs, with the path of an API, and docker.io has three names. */
export function nameOf(key: string): string {
  const bare = key.replace(/^https?:\/\//, '');
  const name = bare === key ? bare.replace(/\/v[12]\/?$|\/$/, '') : bare.replace(/\/.*$/, '');
  return name.replace(/^(?:index|registry-1)\.docker\.io(?=\/|$)/, 'docker.io');
}
