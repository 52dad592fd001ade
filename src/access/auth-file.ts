/**
 * One file of credentials: docker's config.json, or auth.json of podman and skopeo (containers-auth.json(5)), which has
 * keys for parts of a registry too. Both hold `auths`, `credHelpers` and `credsStore`; other fields are kept.
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

/** Docker's key for docker.io, in its file and for its helpers. */
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

  /**
   * A missing file counts as empty. CONFIG when it cannot be read; the error quotes no content, which has passwords.
   */
  static async read(path: string): Promise<AuthFile> {
    const reading = readNamed(path, MAX_AUTH_FILE, { op: OP }).catch(whenMissing(null));
    const text = await reading.catch((cause: unknown) => {
      throw new LacunaError('CONFIG', `${path} cannot be read`, { op: OP, subject: path, cause });
    });
    if (text === null) return new AuthFile(path, {});
    // podman and skopeo create an empty file before the first login.
    const result = authFile.safeParse(text.trim() === '' ? {} : parseSecretJson(text));
    if (result.success) return new AuthFile(path, result.data);
    const where = result.error.issues[0]?.path.join('.') || 'the document';
    throw new LacunaError('CONFIG', `${path}: ${where} does not have the form that docker login writes`, {
      op: OP,
      subject: path,
    });
  }

  /** The credentials for a repository, from its most specific entry: the repository, its namespaces, the registry. */
  async find(host: string, repository: string | null): Promise<Credentials | null> {
    const helper = this.#helperOf(host);
    const credentials = helper === null ? null : await helper.get(serverOf(host));
    if (credentials !== null) return credentials;
    const key = this.#keysOf(host, repository)[0];
    return key === undefined ? null : this.#read(this.#document.auths![key]!, host);
  }

  /** Whether the file has an entry for exactly this registry or part of one, in any spelling of its key. */
  has(host: string, repository: string | null): boolean {
    return this.#own(host, repository).length > 0;
  }

  /** Registries, and parts of registries, that have an entry. */
  get names(): string[] {
    const { auths, credHelpers } = this.#document;
    const keys = [...Object.keys(auths ?? {}).map(nameOf), ...Object.keys(credHelpers ?? {}).map(nameOf)];
    return [...new Set(keys)];
  }

  /** Stores a login with the credential helper that the file names for the registry, or in the file itself. */
  async store(host: string, repository: string | null, username: string, password: string): Promise<void> {
    const helper = this.#helperOf(host);
    if (helper !== null && repository !== null) {
      throw new LacunaError(
        'UNSUPPORTED',
        'a credential helper stores one login per registry, none for parts of a registry',
        {
          op: 'log in',
          subject: `${host}/${repository}`,
        },
      );
    }
    await helper?.store(serverOf(host), username, password);
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    const auths = this.#without(host, repository);
    auths[repository === null ? serverOf(host) : `${host}/${repository}`] = helper === null ? { auth } : {};
    await this.#write({ ...this.#document, auths });
  }

  /** Removes a login. Resolves with false when there was none. */
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

  /** Keys of `auths` whose entries apply to the repository, the most specific first. */
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
        // Docker pads the text with NULs.
        return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
      }
      throw new LacunaError(
        'CONFIG',
        `${this.path}: the entry of ${host} in auths is not the base64 form of USER:PASSWORD`,
        {
          op: OP,
          subject: this.path,
        },
      );
    }
    return entry.username ? { username: entry.username, password: entry.password ?? '' } : null;
  }

  /** Replaces the file by renaming; only its owner may read it. A symbolic link stays, and its target is replaced. */
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

/** Docker's key for a registry, in its file and for its helpers. */
const serverOf = (host: string): string => (host === 'docker.io' ? DOCKER_HUB_KEY : host);

/**
 * The registry, or the part of one, that a key of `auths` names. Keys may be URLs with the path of an API, and
 * docker.io has three names.
 */
export function nameOf(key: string): string {
  const bare = key.replace(/^https?:\/\//, '');
  const name = bare === key ? bare.replace(/\/v[12]\/?$|\/$/, '') : bare.replace(/\/.*$/, '');
  return name.replace(/^(?:index|registry-1)\.docker\.io(?=\/|$)/, 'docker.io');
}
