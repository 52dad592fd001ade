/** Content of RAFS images for tests, decoded without any of our codecs. */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import type { Chunk } from '../../src/blob/table.ts';
import type { RafsImage } from '../../src/formats/rafs/open.ts';
import { type Contents, zstdDecompress } from './layers.ts';

const blake3 = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('@napi-rs/blake-hash') as { blake3(data: Buffer): Buffer }).blake3(data);

/** Plain bytes of a stored chunk; throws when they do not hash to its digest. */
export function decodeChunk(chunk: Chunk, blob: Buffer): Buffer {
  const stored = Buffer.from(blob.subarray(chunk.compressedOffset, chunk.compressedOffset + chunk.compressedSize));
  const plain = decompress(stored, chunk);
  const digest = chunk.digester === 0 ? blake3(plain) : createHash('sha256').update(plain).digest();
  if (!chunk.digest.equals(digest)) throw new Error(`chunk at ${chunk.compressedOffset} hashes to something else`);
  return plain;
}

function decompress(stored: Buffer, chunk: Chunk): Buffer {
  if (chunk.compressor === 0) return stored;
  return chunk.compressor === 1 ? lz4(stored, chunk.uncompressedSize) : zstdDecompress(stored);
}

/** An LZ4 block, as simple as the format's description. */
function lz4(stored: Buffer, size: number): Buffer {
  const out = Buffer.alloc(size);
  let from = 0;
  let to = 0;
  const length = (nibble: number): number => {
    let total = nibble;
    for (let more = nibble === 15; more; ) {
      const byte = stored[from++]!;
      total += byte;
      more = byte === 255;
    }
    return total;
  };
  while (from < stored.length) {
    const token = stored[from++]!;
    const literals = length(token >> 4);
    to += stored.copy(out, to, from, from + literals);
    from += literals;
    if (from >= stored.length) break;
    const distance = stored.readUInt16LE(from);
    from += 2;
    for (let left = length(token & 15) + 4; left > 0; left--, to++) out[to] = out[to - distance]!;
  }
  return out.subarray(0, to);
}

/** Content of every file of an image. `blobOf`: a blob's bytes by its id. */
export function contentsOf(image: RafsImage, blobOf: (id: string) => Buffer): Contents {
  const blobs = new Map(image.blobs.map(({ id }) => [id, blobOf(id)]));
  const contents: Contents = new Map();
  const todo = [image.root()];
  for (const node of todo) {
    todo.push(...(node.children?.values() ?? []));
    if (node.type !== 'reg') continue;
    contents.set(node, Buffer.concat(node.chunks.map((chunk) => decodeChunk(chunk, blobs.get(chunk.blob)!))));
  }
  return contents;
}
