/** What `export` writes, as two libraries see it that know EROFS, but neither devices of Nydus nor our code. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { exportImage } from '../../src/convert/export.ts';
import { readerWalk } from '../kit/erofs-readers.ts';
import { fixture } from '../kit/layers.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows } from '../kit/tree.ts';

const skip = needs('addon', 'go-erofs-walk', 'erofs-rs-walk');

/** go-erofs misspells the name of access control lists. */
const withoutAcl = (rows: readonly Row[]): Row[] =>
  rows.map((row) => ({
    ...row,
    xattrs: Object.fromEntries(Object.entries(row.xattrs ?? {}).filter(([name]) => !/posix_acl/.test(name))),
  }));

describe.skipIf(skip.reason)('an exported image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-xo-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  // Files in one piece, and files in several.
  it.each([
    ['merged', 'tame-mini.merged.jsonl'],
    ['chunk-4k', 'tame-mini.only-layer1.merged.jsonl'],
  ])('%s is one device with everything in it', async (variant, truth) => {
    const { path } = await exportImage(`rafs:${fixture('rafs', variant, 'bootstrap')}`, join(dir, variant));
    for (const reader of ['go-erofs-walk', 'erofs-rs-walk'] as const) {
      const expected = withoutAcl(readRows(fixture('truth', truth)));
      const found = withoutAcl(await readerWalk(reader, path, []));
      expect(diffTrees(expected, found, { time: nydusImageTime }), reader).toEqual([]);
    }
  });
});
