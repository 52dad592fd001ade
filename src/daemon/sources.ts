/** Opens the places that blobs come from, one connection pool per repository, with the credentials of the moment. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BlobSource, fileSource, storeSource } from '../blob/source.ts';
import type { Config } from '../config/table.ts';
import { LacunaError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import { dockerConfigCredentials } from '../registry/credentials.ts';
import { openStore } from '../registry/open.ts';
import type { Credentials, ImageStore, RetryOptions } from '../registry/store.ts';
import type { RegistrySource, SetCredentialsRequest } from './api.ts';
import type { ImageRecord } from './record.ts';

/** The fetcher tries again by itself, also elsewhere; the store only bridges a short hiccup. Times in milliseconds. */
const RETRY: RetryOptions = { attempts: 3, minDelay: 50, maxDelay: 500, maxRetryAfter: 5_000 };

export class Sources implements AsyncDisposable {
  readonly #registry: Config['registry'];
  readonly #log: Log;
  /** Of this process only: set through the control API, gone with it. */
  readonly #credentials = new Map<string, Credentials>();
  readonly #docker = dockerConfigCredentials();
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

  /** The places of one blob, in the record's order. `size`: its length as far as the image uses it. */
  async open(sources: ImageRecord['sources'], id: string, size: number): Promise<BlobSource[]> {
    return await Promise.all(
      sources.map(async (source) => {
        if ('directory' in source) return fileSource(join(source.directory.path, id));
        if ('layout' in source) return fileSource(join(source.layout.path, 'blobs', 'sha256', id));
        return storeSource(await this.#repository(source.registry), id, size);
      }),
    );
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
    return await openStore(
      { transport: 'docker', host, repository, tag: null, digest: null },
      {
        credentials: async (name) => this.#credentials.get(name) ?? (await this.#docker(name)),
        retry: RETRY,
        log: this.#log,
        ...(plain === null ? {} : { plainHttp: plain }),
        ...(caPath === '' ? {} : { ca: await readFile(caPath, 'utf8') }),
      },
    );
  }
}
