/** For the contract: what is pushed goes into a layout, which GNU tar packs before the next read; reads come from there. */
import { execFileSync } from 'node:child_process';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from '../../../src/registry/store.ts';

export async function openPacked(dir: string, ref: string | null): Promise<ImageStore> {
  return new Packed(dir, ref, await openStore({ transport: 'oci', path: dir, ref }, { create: true }));
}

class Packed implements ImageStore {
  readonly isPinned = false;
  readonly #dir: string;
  readonly #ref: string | null;
  readonly #layout: ImageStore;
  readonly #opened: ImageStore[] = [];
  #archive: Promise<ImageStore> | null = null;

  constructor(dir: string, ref: string | null, layout: ImageStore) {
    this.#dir = dir;
    this.#ref = ref;
    this.#layout = layout;
  }

  get subject(): string {
    return this.#layout.subject;
  }

  async resolve(ref: string | null, options?: SignalOptions): Promise<Descriptor> {
    return (await this.#read()).resolve(ref, options);
  }

  async manifest(descriptor: Descriptor, options?: SignalOptions): Promise<Buffer> {
    return (await this.#read()).manifest(descriptor, options);
  }

  async *open(descriptor: Descriptor, options?: ReadOptions): AsyncGenerator<Buffer> {
    yield* (await this.#read()).open(descriptor, options);
  }

  async *tags(): AsyncGenerator<string> {
    yield* (await this.#read()).tags();
  }

  async has(descriptor: Descriptor): Promise<boolean> {
    return (await this.#read()).has(descriptor);
  }

  async upload(options?: SignalOptions): Promise<BlobUpload> {
    const upload = await this.#layout.upload(options);
    return {
      write: (data) => upload.write(data),
      abort: () => upload.abort(),
      commit: async (digest, size) => {
        await upload.commit(digest, size);
        this.#archive = null;
      },
    };
  }

  async mountFrom(): Promise<boolean> {
    return false;
  }

  async pushManifest(bytes: Buffer, mediaType: string, ref: string | null): Promise<Descriptor> {
    const pushed = await this.#layout.pushManifest(bytes, mediaType, ref);
    this.#archive = null;
    return pushed;
  }

  async referrers(digest: string, artifactType: string | null): Promise<Descriptor[]> {
    return (await this.#read()).referrers(digest, artifactType);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of [...this.#opened, this.#layout]) await store[Symbol.asyncDispose]();
  }

  #read(): Promise<ImageStore> {
    this.#archive ??= this.#pack();
    return this.#archive;
  }

  async #pack(): Promise<ImageStore> {
    const path = `${this.#dir}.${this.#opened.length}.tar`;
    // A layout that nothing was pushed into has no index yet.
    execFileSync('sh', ['-c', 'test -e index.json || echo \'{"schemaVersion":2,"manifests":[]}\' > index.json'], {
      cwd: this.#dir,
    });
    execFileSync('tar', ['-cf', path, '-C', this.#dir, '--exclude', '.lacuna-tmp', '.']);
    const store = await openStore({ transport: 'oci-archive', path, ref: this.#ref });
    this.#opened.push(store);
    return store;
  }
}
