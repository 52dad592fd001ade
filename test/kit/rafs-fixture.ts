/** A random tree as a bootstrap and blobs in a folder, and what of it a tar can hold. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../src/formats/rafs/write.ts';
import { CHUNK_SIZE, type RandomTree } from './random-tree.ts';
import type { Row } from './tree.ts';

export const writeTree = ({ root, blobs }: RandomTree): Buffer =>
  writeBootstrap(root, blobs, { chunkSize: CHUNK_SIZE, compressor: 3, digester: 1 });

/** Writes the tree into the folder `room`, its blobs as they are stored, chunks back to back; returns the reference. */
export function writeRafs(tree: RandomTree, room: string): string {
  const bytes = writeTree(tree);
  writeFileSync(join(room, 'bootstrap'), bytes);
  const image = openBootstrap(bytes, { subject: 'test' });
  for (const [i, { id }] of image.blobs.entries()) {
    const chunks = image.chunksOf(i).map(({ uncompressedOffset: at, uncompressedSize, compressedOffset }) => ({
      data: tree.devices.get(id)!.subarray(at, at + uncompressedSize),
      place: compressedOffset,
    }));
    const blob = Buffer.alloc(Math.max(0, ...chunks.map(({ data, place }) => place + data.length)));
    for (const { data, place } of chunks) data.copy(blob, place);
    writeFileSync(join(room, id), blob);
  }
  return `rafs:${join(room, 'bootstrap')}`;
}

/** Sockets have no type in a tar, and a `=` ends the name of a pax record. */
export const keptByTar = (rows: readonly Row[]): Row[] =>
  rows
    .filter(({ type }) => type !== 'socket')
    .map((row) => ({
      ...row,
      xattrs: Object.fromEntries(Object.entries(row.xattrs ?? {}).filter(([key]) => !key.includes('='))),
    }));
