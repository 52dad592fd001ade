/** A tree with content → a blob file and a bootstrap, without the converter: what the RAFS writer alone makes of it. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Chunk } from '../../src/blob/table.ts';
import { finishBlob } from '../../src/formats/rafs/blob-end.ts';
import { writeBootstrap } from '../../src/formats/rafs/write.ts';
import { addon } from '../../src/native/addon.ts';
import type { FileChunk, FileNode } from '../../src/tree/node.ts';
import type { Contents } from './layers.ts';

const BLOCK = 4096;
const DIGESTER = 0;

/** Writes `<id>` (one blob with everything in it) and `bootstrap` into `dir`. Needs the addon. */
export async function makeImage(root: FileNode, contents: Contents, chunkSize: number, dir: string): Promise<string> {
  const known = new Map<string, Chunk & { index: number; crc32c: number }>();
  const data: Buffer[] = [];
  let [plainEnd, storedEnd] = [0, 0];
  const chunksOf = new Map<FileNode, Array<Chunk & { index: number; crc32c: number }>>();
  for (const [node, content] of contents) {
    const chunks = [];
    for (let at = 0; at < content.length; at += chunkSize) {
      const plain = Buffer.from(content.subarray(at, at + chunkSize));
      const digest = addon().hash(plain, DIGESTER);
      const key = digest.toString('hex');
      if (!known.has(key)) {
        const packed = addon().zstdCompress(plain, 3);
        const isCompressed = packed.length < plain.length;
        const stored = isCompressed ? packed : plain;
        known.set(key, {
          uncompressedOffset: plainEnd,
          uncompressedSize: plain.length,
          compressedOffset: storedEnd,
          compressedSize: stored.length,
          compressor: isCompressed ? 3 : 0,
          digester: DIGESTER,
          digest,
          within: null,
          index: known.size,
          crc32c: addon().crc32c(plain),
        });
        data.push(stored);
        plainEnd += Math.ceil(plain.length / BLOCK) * BLOCK;
        storedEnd += stored.length;
      }
      chunks.push(known.get(key)!);
    }
    chunksOf.set(node, chunks);
  }
  const options = { chunkSize, compressor: 3, digester: DIGESTER } as const;
  const sha256WithHeader = async (header: Buffer) => {
    data.push(header);
    return sha256(Buffer.concat(data));
  };
  const end = await finishBlob([...known.values()], { dataSize: storedEnd, sha256WithHeader }, options);
  const file = Buffer.concat([...data, end.tail]);
  const id = sha256(file);
  for (const [node, chunks] of chunksOf) node.chunks = chunks.map((chunk): FileChunk => ({ ...chunk, blob: id }));
  writeFileSync(join(dir, id), file);
  writeFileSync(join(dir, 'bootstrap'), writeBootstrap(root, [{ ...end.blob, id }], options));
  return join(dir, 'bootstrap');
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
