/**
 * Takes the bootstrap out of a lazy image's last layer, a small compressed tar: `image/image.boot`, and the chunk info of
 * blobs that lies beside it, `image/<name>.blob.meta`.
 */
import { FormatError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { ImageStore } from '../registry/store.ts';
import { type ParseOptions, parseLayerTar } from './layer-stream.ts';

/** Some 100 bytes a file and 80 a chunk: this is an image of millions of files. */
export const MAX_BOOTSTRAP_SIZE = 512 * 1024 * 1024;

/** Of all chunk info together: 24 bytes a chunk, and windows of 32 KiB per megabyte where it is an index of gzip layers. */
const MAX_METAS_SIZE = 512 * 1024 * 1024;

const MEMBER = 'image/image.boot';
/** Blob ids, or digests of a file of chunk info: nothing else becomes a name. */
const META = /^image\/([0-9a-f]{64})\.blob\.meta$/;

export interface BootstrapLayer {
  readonly bootstrap: Buffer;
  /** What stands before `.blob.meta` → the file: chunk info as it is in memory and its header. */
  readonly metas: ReadonlyMap<string, Buffer>;
}

/** Fetches and verifies the layer. FORMAT when there is no bootstrap in it, or something is too large. */
export async function readBootstrapLayer(
  store: ImageStore,
  layer: Descriptor,
  options: ParseOptions = {},
): Promise<BootstrapLayer> {
  const subject = layer.digest;
  const files = new Map<string, Buffer[]>();
  let pieces: Buffer[] | null = null;
  let metasSize = 0;
  const handler = {
    entry({ name, type, size }: { name: string; type: string; size: number }) {
      pieces = null;
      if (type !== 'reg' || !(name === MEMBER || META.test(name))) return;
      if (name !== MEMBER) metasSize += size;
      if (size > MAX_BOOTSTRAP_SIZE || metasSize > MAX_METAS_SIZE) {
        throw new FormatError(name, `${size} bytes are too many`, { subject });
      }
      pieces = [];
      files.set(name, pieces);
    },
    content(buffer: Buffer, start: number, available: number) {
      pieces?.push(Buffer.from(buffer.subarray(start, start + available)));
      return available;
    },
  };
  await parseLayerTar(store, layer, handler, options);
  const bootstrap = files.get(MEMBER);
  if (bootstrap === undefined) throw new FormatError(MEMBER, 'missing from the bootstrap layer', { subject });
  files.delete(MEMBER);
  const metas = new Map([...files].map(([name, data]) => [META.exec(name)![1]!, Buffer.concat(data)]));
  return { bootstrap: Buffer.concat(bootstrap), metas };
}

/** The bootstrap alone. */
export async function readBootstrap(store: ImageStore, layer: Descriptor, options: ParseOptions = {}): Promise<Buffer> {
  return (await readBootstrapLayer(store, layer, options)).bootstrap;
}
