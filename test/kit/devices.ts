/** The devices of an image without a decoder: content that somebody else has read, put where the bootstrap says it is. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { RafsImage } from '../../src/formats/rafs/open.ts';

/**
 * Writes one file per blob, in the order of the blob table, from the files of the image mounted at `directory`. Every chunk
 * has to have its digest, and chunks that share a place their content.
 */
export function devicesOf(image: RafsImage, directory: string, target: string): string[] {
  const devices = new Map(image.blobs.map(({ id }, index) => [id, Buffer.alloc(image.deviceSize(index))]));
  const root = Buffer.from(directory, 'latin1');
  const todo = [{ node: image.root(), path: root }];
  for (const { node, path } of todo) {
    for (const [name, child] of node.children ?? []) {
      todo.push({ node: child, path: Buffer.concat([path, Buffer.from(`/${name}`, 'latin1')]) });
    }
    if (node.type !== 'reg') continue;
    const content = readFileSync(path);
    let at = 0;
    for (const chunk of node.chunks) {
      const plain = content.subarray(at, at + chunk.uncompressedSize);
      at += chunk.uncompressedSize;
      if (!chunk.digest.equals(hash(plain, chunk.digester)))
        throw new Error(`${path}: a chunk hashes to something else`);
      plain.copy(devices.get(chunk.blob)!, chunk.uncompressedOffset);
    }
  }
  return image.blobs.map(({ id }, index) => {
    const file = join(target, `device-${index}`);
    writeFileSync(file, devices.get(id)!);
    return file;
  });
}

const hash = (data: Buffer, digester: number): Buffer =>
  digester === 0
    ? (createRequire(import.meta.url)('@napi-rs/blake-hash') as { blake3(data: Buffer): Buffer }).blake3(data)
    : createHash('sha256').update(data).digest();
