/** Takes the bootstrap out of an image's last layer: `image/image.boot` in a small compressed tar. */
import { FormatError, LacunaError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import { layerCompression } from '../image/media.ts';
import { addon, type LayerStream } from '../native/addon.ts';
import type { ImageStore } from '../registry/store.ts';
import { TarParser } from '../tree/tar.ts';

/** A bootstrap takes some 100 bytes per file and 80 per chunk: this is an image of millions of files. */
export const MAX_BOOTSTRAP_BYTES = 512 * 1024 * 1024;

const MEMBER = 'image/image.boot';
const BUFFER_BYTES = 1024 * 1024;

export interface BootstrapLayer {
  readonly bootstrap: Buffer;
  /** Digest of the layer's tar. */
  readonly diffId: string;
}

/** Fetches and verifies the layer. FORMAT when there is no bootstrap in it or it is too large. */
export async function readBootstrapLayer(store: ImageStore, layer: Descriptor): Promise<BootstrapLayer> {
  const compression = layerCompression(layer.mediaType);
  if (compression === null) {
    throw new LacunaError('UNSUPPORTED', `a bootstrap layer of type ${layer.mediaType}`, { subject: layer.digest });
  }
  const stream = addon().layerStream(compression);
  try {
    const feeding = feed(stream, store.open(layer));
    // Whatever fails first is what is thrown: the other side then ends with an error of its own.
    const [bootstrap] = await Promise.all([extract(stream, layer.digest), feeding]);
    return { bootstrap, diffId: `sha256:${stream.digests().uncompressedDigest}` };
  } finally {
    stream.close();
  }
}

async function feed(stream: LayerStream, content: AsyncIterable<Buffer>): Promise<void> {
  try {
    for await (const piece of content) await stream.write(piece);
    stream.end();
  } catch (error) {
    stream.close();
    throw error;
  }
}

async function extract(stream: LayerStream, subject: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let inside = false;
  let found = false;
  const parser = new TarParser(
    {
      entry({ name, type, size }) {
        inside = type === 'reg' && name === MEMBER;
        if (!inside) return;
        if (size > MAX_BOOTSTRAP_BYTES) throw new FormatError(MEMBER, `${size} bytes are too many`, { subject });
        found = true;
        pieces.length = 0;
      },
      content(buffer, start, available) {
        if (inside) pieces.push(Buffer.from(buffer.subarray(start, start + available)));
        return available;
      },
    },
    { subject },
  );
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  let kept = 0;
  for (;;) {
    const read = await stream.read(buffer, kept);
    if (read === 0) break;
    const end = kept + read;
    const consumed = parser.push(buffer, 0, end);
    buffer.copyWithin(0, consumed, end);
    kept = end - consumed;
  }
  parser.finish(kept);
  if (!found) throw new FormatError(MEMBER, 'missing from the bootstrap layer', { subject });
  return Buffer.concat(pieces);
}
