/**
 * Opens the places that blobs come from, one connection pool per repository, with the credentials of the moment.
 * Repositories are opened, and the registry's code is loaded, with the first read: a daemon that takes over from a dead
 * one must answer from its cache before that.
 */
import { join } from 'node:path';
import { type BlobSource, fileSource, storeSource } from '../blob/source.ts';
import { readCertificates } from '../config/certificates.ts';
import type { Config } from '../config/table.ts';
import { LacunaError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import type { CredentialSource, Credentials, ImageStore, RetryOptions } from '../registry/store.ts';
import type { RegistrySource, SetCredentialsRequest } from './api.ts';
import type { ImageRecord } from './record.ts';

/** The fetcher tries again by itself, also elsewhere; the store only bridges a short hiccup. Times in milliseconds. */
const RETRY: RetryOptions = { attempts: 3, minDelay: 50, maxDelay: 500, maxRetryAfter: 5_000 };

export class Sources implements AsyncDisposable {
  readonly #registry: Config['registry'];
  readonly #log: Log;
  /** Of this process only: set through the control API, gone with it. */
  readonly #credentials = new Map<string, Credentials>();
  #stored: CredentialSource | null = null;
  readonly #stores = new Map<string, Promise<ImageStore>>();

  constructor(registry: Config['registry'], log: Log) {
    this.#registry = registry;
    this.#log = log;
  }

  setCredentials({ host, username, password, identityToken }: SetCredentialsRequest): void {
    if (host === '') throw new LacunaError('USAGE', 'credentials need a host', { op: 'set credentials' });
    if (identityToken) this.#credentials.set(host, { identityToken });
    else this.#credentials.set(host, { username: username ?? '', password: password ?? '' });
  }

  /** Loads what the first read of a registry would have to wait for. */
  async preload(): Promise<void> {
    const [{ preloadTransport }] = await Promise.all([loadRegistry(), loadCredentials()]);
    await preloadTransport();
  }

  /** The places of one blob, in the record's order. `size`: its length as far as the image uses it. */
  of(sources: ImageRecord['sources'], id: string, size: number): BlobSource[] {
    return sources.map((source) => {
      if ('directory' in source) return fileSource(join(source.directory.path, id), source.directory.path);
      if ('layout' in source) return fileSource(join(source.layout.path, 'blobs', 'sha256', id), source.layout.path);
      const repository = () => this.#repository(source.registry);
      return {
        subject: `${source.registry.host}/${source.registry.repository}`,
        async *read(offset, length, signal) {
          yield* storeSource(await repository(), id, size).read(offset, length, signal);
        },
      };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await Promise.allSettled(this.#stores.values());
    for (const store of opened) if (store.status === 'fulfilled') await store.value[Symbol.asyncDispose]();
  }

  #repository(source: RegistrySource): Promise<ImageStore> {
    const key = JSON.stringify(source);
    let store = this.#stores.get(key);
    if (store === undefined) {
      store = this.#openRepository(source);
      store.catch(() => this.#stores.delete(key)); // a CA file that is missing now may come
      this.#stores.set(key, store);
    }
    return store;
  }

  async #openRepository({ host, repository, plainHttp, ca }: RegistrySource): Promise<ImageStore> {
    const caPath = ca || this.#registry.ca;
    const plain = plainHttp ?? (this.#registry.plain_http.includes(host) ? true : null);
    const [{ openStore }, { storedCredentials }] = await Promise.all([loadRegistry(), loadCredentials()]);
    this.#stored ??= storedCredentials();
    const stored = this.#stored;
    return await openStore(
      { transport: 'docker', host, repository, tag: null, digest: null },
      {
        credentials: async (name, part) => this.#credentials.get(name) ?? (await stored(name, part)),
        retry: RETRY,
        log: this.#log,
        ...(plain === null ? {} : { plainHttp: plain }),
        ...(caPath === '' ? {} : { ca: await readCertificates(caPath) }),
      },
    );
  }
}

const loadRegistry = () => import('../registry/open.ts');
const loadCredentials = () => import('../registry/credentials.ts');
