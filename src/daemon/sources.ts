/**
 * Opens the sources of blobs with current credentials. Each image has one connection pool per repository, so that no image
 * waits for connections of another. Repositories are opened, and the registry client is loaded, with the first read: a
 * daemon that takes over from a dead one must answer from its cache before that.
 */
import { join } from 'node:path';
import type { CredentialSource, Credentials } from '../access/credential-source.ts';
import { registryOptions } from '../access/registry-options.ts';
import { fileSource, storeSource } from '../blob/source.ts';
import type { Config } from '../config/table.ts';
import { LacunaError } from '../errors.ts';
import { type FetchSource, Standing } from '../fetch/standing.ts';
import type { Log } from '../observe/log.ts';
import type { ImageStore, RetryOptions } from '../registry/store.ts';
import type { RegistrySource, SetCredentialsRequest } from './api.ts';
import type { ImageRecord } from './record.ts';

/** The fetcher retries by itself, also at other sources, so the store retries only briefly. Times in milliseconds. */
const RETRY: RetryOptions = { attempts: 3, minDelay: 50, maxDelay: 500, maxRetryAfter: 5_000 };

export class Sources implements AsyncDisposable {
  /** Record of silent sources, which all readers share. */
  readonly standing = new Standing();
  readonly #registry: Config['registry'];
  readonly #log: Log;
  /** Credentials set through the control API, kept in memory only. */
  readonly #credentials = new Map<string, Credentials>();
  #stored: CredentialSource | null = null;
  /** By image, then by source. */
  readonly #stores = new Map<string, Map<string, Promise<ImageStore>>>();

  constructor(registry: Config['registry'], log: Log) {
    this.#registry = registry;
    this.#log = log;
  }

  setCredentials({ host, username, password, identityToken }: SetCredentialsRequest): void {
    if (host === '') throw new LacunaError('USAGE', 'credentials need a host', { op: 'set credentials' });
    if (identityToken) this.#credentials.set(host, { identityToken });
    else this.#credentials.set(host, { username: username ?? '', password: password ?? '' });
  }

  /** Loads the modules that the first read of a registry needs. */
  async preload(): Promise<void> {
    const [{ preloadTransport }] = await Promise.all([loadRegistry(), loadCredentials()]);
    await preloadTransport();
  }

  /** The sources of one blob of an image, in the image's order. `size`: bytes of the blob that the image uses. */
  of({ id: image, sources }: Pick<ImageRecord, 'id' | 'sources'>, id: string, size: number): FetchSource[] {
    return sources.map((source) => {
      if ('directory' in source) return inFolder(source.directory.path, id);
      if ('layout' in source) return inFolder(source.layout.path, join('blobs', 'sha256', id));
      const repository = () => this.#repository(image, source.registry);
      return {
        subject: `${source.registry.host}/${source.registry.repository}`,
        origin: source.registry.host,
        place: keyOf(source.registry),
        async *read(offset, length, signal) {
          yield* storeSource(await repository(), id, size).read(offset, length, signal);
        },
      };
    });
  }

  /** Closes the connections of an image to all sources but these. */
  async retain(image: string, sources: ImageRecord['sources']): Promise<void> {
    const opened = this.#stores.get(image) ?? new Map<string, Promise<ImageStore>>();
    const kept = new Set(sources.map((source) => ('registry' in source ? keyOf(source.registry) : '')));
    const over = [...opened].filter(([key]) => !kept.has(key));
    for (const [key] of over) opened.delete(key);
    if (opened.size === 0) this.#stores.delete(image);
    await closeAll(over.map(([, store]) => store));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeAll([...this.#stores.values()].flatMap((opened) => [...opened.values()]));
  }

  #repository(image: string, source: RegistrySource): Promise<ImageStore> {
    const opened = this.#stores.get(image) ?? new Map<string, Promise<ImageStore>>();
    this.#stores.set(image, opened);
    const key = keyOf(source);
    let store = opened.get(key);
    if (store === undefined) {
      store = this.#openRepository(source);
      store.catch(() => opened.delete(key)); // a CA file that is missing now may appear later
      opened.set(key, store);
    }
    return store;
  }

  async #openRepository({ host, repository, plainHttp, ca }: RegistrySource): Promise<ImageStore> {
    const [{ openStore }, { storedCredentials }] = await Promise.all([loadRegistry(), loadCredentials()]);
    this.#stored ??= storedCredentials();
    const stored = this.#stored;
    return await openStore(
      { transport: 'docker', host, repository, tag: null, digest: null },
      {
        credentials: async (name, part) => this.#credentials.get(name) ?? (await stored(name, part)),
        retry: RETRY,
        log: this.#log,
        ...(await registryOptions({ host, plainHttp: plainHttp ?? null, ca: ca ?? '' }, this.#registry)),
      },
    );
  }
}

const loadRegistry = () => import('../registry/open.ts');
const loadCredentials = () => import('../access/credentials.ts');

const keyOf = (source: RegistrySource): string => JSON.stringify(source);

/** The file at `path` in `folder`. */
const inFolder = (folder: string, path: string): FetchSource => ({
  ...fileSource(join(folder, path), folder),
  origin: folder,
  place: folder,
});

async function closeAll(stores: readonly Promise<ImageStore>[]): Promise<void> {
  const opened = await Promise.allSettled(stores);
  for (const store of opened) if (store.status === 'fulfilled') await store.value[Symbol.asyncDispose]();
}
