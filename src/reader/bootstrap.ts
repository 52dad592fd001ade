/**
 * Takes bootstrap and chunk info out of a lazy image's last layer: `image/image.boot` and its companions in a small
 * compressed tar.
 */
import { FormatError } from '../errors.ts';
import { MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../formats/rafs/limits.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { ImageStore } from '../registry/store.ts';
import type { TarEntry, TarHandler } from '../tree/tar.ts';
import { layerTar, type ParseOptions, parseTarSteps } from './layer-stream.ts';
import { reportingStore } from './progress.ts';

/** Where converters put the bootstrap; old ones into the root. */
export const BOOTSTRAP_MEMBERS: readonly string[] = ['image/image.boot', 'image.boot'];
/** Plain chunk info of a blob, named after the blob's layer. */
const META = /^image\/([0-9a-f]{64})\.blob\.meta$/;

export interface BootstrapOptions extends ParseOptions {
  /** Hears how much of the layer has come. */
  readonly onProgress?: OnProgress;
}

/** What a bootstrap layer holds. */
export interface BootstrapLayer {
  readonly bootstrap: Buffer;
  /** Plain `blob.meta` files by the hex digest that they are named after. */
  readonly metas: ReadonlyMap<string, Buffer>;
}

/** Fetches and verifies the layer. FORMAT when there is no bootstrap in it, or one that is too large. */
export async function readBootstrap(
  store: ImageStore,
  layer: Descriptor,
  options: BootstrapOptions = {},
): Promise<Buffer> {
  return (await readBootstrapLayer(store, layer, options)).bootstrap;
}

/** The same, with the chunk info beside it. */
export function readBootstrapLayer(
  store: ImageStore,
  layer: Descriptor,
  options: BootstrapOptions = {},
): Promise<BootstrapLayer> {
  const reporting = reportingStore(store, 'read', options.onProgress);
  return readBootstrapTar(layerTar(reporting, layer, options), layer.digest, options);
}

/** The same out of a tar that is at hand. */
export async function readBootstrapTar(
  tar: AsyncIterable<Buffer>,
  subject: string,
  options: ParseOptions = {},
): Promise<BootstrapLayer> {
  const collector = new Collector(subject);
  for await (const _ of parseTarSteps(tar, subject, collector, options));
  return collector.finish();
}

class Collector implements TarHandler {
  readonly #subject: string;
  readonly #files = new Map<string, Buffer[]>();
  #left = MAX_META_SIZE;
  #pieces: Buffer[] | null = null;

  constructor(subject: string) {
    this.#subject = subject;
  }

  entry({ name, type, size }: TarEntry): void {
    this.#pieces = null;
    const path = name.replace(/^(?:\.?\/)+/, '');
    const isBootstrap = BOOTSTRAP_MEMBERS.includes(path);
    if (type !== 'reg' || !(isBootstrap || META.test(path))) return;
    if (isBootstrap && size > MAX_BOOTSTRAP_SIZE) throw this.#tooLarge(path, size);
    if (!isBootstrap) {
      this.#left -= size;
      if (this.#left < 0) throw this.#tooLarge(path, size);
    }
    this.#pieces = [];
    this.#files.set(path, this.#pieces);
  }

  content(buffer: Buffer, start: number, available: number): number {
    this.#pieces?.push(Buffer.from(buffer.subarray(start, start + available)));
    return available;
  }

  hole(length: number): number {
    this.#pieces?.push(Buffer.alloc(length));
    return length;
  }

  finish(): BootstrapLayer {
    const name = BOOTSTRAP_MEMBERS.find((member) => this.#files.has(member));
    if (name === undefined) {
      throw new FormatError(BOOTSTRAP_MEMBERS[0]!, 'missing from the bootstrap layer', { subject: this.#subject });
    }
    const metas = [...this.#files].flatMap(([path, pieces]): Array<[string, Buffer]> => {
      const digest = META.exec(path)?.[1];
      return digest === undefined ? [] : [[digest, Buffer.concat(pieces)]];
    });
    return { bootstrap: Buffer.concat(this.#files.get(name)!), metas: new Map(metas) };
  }

  #tooLarge(name: string, size: number): FormatError {
    return new FormatError(name, `${size} bytes are too many`, { subject: this.#subject });
  }
}
