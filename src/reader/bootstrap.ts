/**
 * Takes bootstrap and chunk info out of a lazy image's last layer: `image/image.boot` and its companions in a small
 * compressed tar.
 */
import { FormatError } from '../errors.ts';
import { MAX_BOOTSTRAP_LAYER, MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../formats/rafs/limits.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { ImageStore } from '../registry/store.ts';
import type { TarEntry, TarHandler } from '../tree/tar.ts';
import { layerTar, type ParseOptions, parseTarSteps } from './layer-stream.ts';
import { reportingStore } from './progress.ts';

/** Where converters put the bootstrap; old ones into the root. */
export const BOOTSTRAP_MEMBERS: readonly string[] = ['image/image.boot', 'image.boot'];
/** Plain chunk info of a blob, named after the blob's layer. */
export const META_MEMBER = /^image\/([0-9a-f]{64})\.blob\.meta$/;

export interface BootstrapOptions extends ParseOptions {
  /** Progress of fetching the layer. */
  readonly onProgress?: OnProgress;
}

/** Content of a bootstrap layer. */
export interface BootstrapLayer {
  readonly bootstrap: Buffer;
  /** Plain `blob.meta` files by the hex digest that they are named after. */
  readonly metas: ReadonlyMap<string, Buffer>;
}

/** Fetches and verifies the layer. FORMAT when there is no bootstrap in it, or one that is too large. */
export async function readBootstrapLayer(
  store: ImageStore,
  layer: Descriptor,
  options: BootstrapOptions = {},
): Promise<BootstrapLayer> {
  const reporting = reportingStore(store, 'read', options.onProgress);
  return await readBootstrapTar(layerTar(reporting, layer, options), layer.digest, options);
}

/** The same out of a tar that is at hand. */
export async function readBootstrapTar(
  tar: AsyncIterable<Buffer>,
  subject: string,
  options: ParseOptions = {},
): Promise<BootstrapLayer> {
  const collector = new Collector(subject);
  for await (const _ of parseTarSteps(tar, subject, collector, { ...options, maxTar: MAX_BOOTSTRAP_LAYER }));
  return collector.finish();
}

class Collector implements TarHandler {
  readonly #subject: string;
  readonly #files = new Map<string, Buffer>();
  #metasLeft = MAX_META_SIZE;
  #file: Buffer | null = null;
  /** Bytes of the current file that are there. */
  #filled = 0;

  constructor(subject: string) {
    this.#subject = subject;
  }

  entry({ name, type, size }: TarEntry): void {
    this.#file = null;
    const path = name.replace(/^(?:\.?\/)+/, '');
    const isBootstrap = BOOTSTRAP_MEMBERS.includes(path);
    const isMeta = META_MEMBER.test(path);
    if (type !== 'reg' || !(isBootstrap || isMeta)) return;
    if (isMeta) this.#metasLeft -= size;
    if (this.#metasLeft < 0 || (isBootstrap && size > MAX_BOOTSTRAP_SIZE)) {
      const limit = isBootstrap ? MAX_BOOTSTRAP_SIZE : MAX_META_SIZE;
      throw new FormatError(path, `${size} bytes exceed the limit of ${limit}`, { subject: this.#subject });
    }
    // The system provides zeroed memory when it is written to, so a false size in a header costs nothing.
    this.#file = Buffer.alloc(size);
    this.#filled = 0;
    this.#files.set(path, this.#file);
  }

  content(buffer: Buffer, start: number, available: number): number {
    if (this.#file !== null) buffer.copy(this.#file, this.#filled, start, start + available);
    this.#filled += available;
    return available;
  }

  hole(length: number): number {
    this.#filled += length;
    return length;
  }

  finish(): BootstrapLayer {
    const name = BOOTSTRAP_MEMBERS.find((member) => this.#files.has(member));
    if (name === undefined) {
      throw new FormatError(BOOTSTRAP_MEMBERS[0]!, 'missing from the bootstrap layer', { subject: this.#subject });
    }
    const metas = [...this.#files].flatMap(([path, bytes]): Array<[string, Buffer]> => {
      const digest = META_MEMBER.exec(path)?.[1];
      return digest === undefined ? [] : [[digest, bytes]];
    });
    return { bootstrap: this.#files.get(name)!, metas: new Map(metas) };
  }
}
