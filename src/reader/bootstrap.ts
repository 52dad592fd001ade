/** Takes the bootstrap out of a lazy image's last layer: `image/image.boot` in a small compressed tar. */
import { FormatError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { ImageStore } from '../registry/store.ts';
import { type ParseOptions, parseLayerTar } from './layer-stream.ts';

/** Some 100 bytes a file and 80 a chunk: this is an image of millions of files. */
export const MAX_BOOTSTRAP_SIZE = 512 * 1024 * 1024;

const MEMBER = 'image/image.boot';

/** Fetches and verifies the layer. FORMAT when there is no bootstrap in it, or one that is too large. */
export async function readBootstrap(store: ImageStore, layer: Descriptor, options: ParseOptions = {}): Promise<Buffer> {
  const subject = layer.digest;
  let pieces: Buffer[] | null = null;
  let isInside = false;
  const handler = {
    entry({ name, type, size }: { name: string; type: string; size: number }) {
      isInside = type === 'reg' && name === MEMBER;
      if (!isInside) return;
      if (size > MAX_BOOTSTRAP_SIZE) throw new FormatError(MEMBER, `${size} bytes are too many`, { subject });
      pieces = [];
    },
    content(buffer: Buffer, start: number, available: number) {
      if (isInside) pieces!.push(Buffer.from(buffer.subarray(start, start + available)));
      return available;
    },
  };
  await parseLayerTar(store, layer, handler, options);
  if (pieces === null) throw new FormatError(MEMBER, 'missing from the bootstrap layer', { subject });
  return Buffer.concat(pieces);
}
