/** The rows of an image as the library lists and reads it. */

import { listTree } from '../../src/inspect/entries.ts';
import { openImage } from '../../src/reader/open.ts';
import type { Row } from './tree.ts';

/** Every path, files with the digest of their content, which is read and decoded for it. */
export async function imageRows(reference: string): Promise<Row[]> {
  await using image = await openImage(reference);
  const rows: Row[] = [];
  for (const { row, node } of listTree(image.root, '/', { recursive: true })) {
    rows.push(node.type === 'reg' ? { ...row, sha256: await image.digest(node) } : row);
  }
  return rows;
}
