import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { fixture, rowsOf } from '../../kit/layers.ts';
import { contentsOf } from '../../kit/rafs.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, exactTime, nydusImageTime, type Row, readRows } from '../../kit/tree.ts';

const blobsIn = (directory: string) => (id: string) => readFileSync(fixture('rafs', directory, id));

const LAYER1 = 'truth/tame-mini.only-layer1.merged.jsonl';
const MERGED = 'truth/tame-mini.merged.jsonl';
const inline1 = 'c8a0a67f0e903d64e257ef38f9d967570ec98b3101d4898ca52c792f4e4bb40d';
const inline2 = 'd13b65e4d824a0fe08d8b4141d4d3f7014744ae30a38051288921e804fb5afab';

/** Variant, bootstrap, truth, id from outside. */
const VARIANTS: [string, string, string, string?][] = [
  ['default', 'bootstrap', LAYER1],
  ['sha256', 'bootstrap', LAYER1],
  ['lz4', 'bootstrap', LAYER1],
  ['chunk-4k', 'bootstrap', LAYER1],
  ['chunk-64k', 'bootstrap', LAYER1],
  ['chunk-16m', 'bootstrap', LAYER1],
  ['blob-toc', 'bootstrap', LAYER1],
  ['prefetch', 'bootstrap', LAYER1],
  ['targz', 'bootstrap', LAYER1],
  ['merged', 'bootstrap', MERGED],
  ['inline-meta', `${inline1}.boot`, LAYER1, inline1],
  ['inline-meta-toc', `${inline2}.boot`, LAYER1, inline2],
];

const skip = needs('zstd-napi', '@napi-rs/blake-hash');

describe.skipIf(skip.reason)('RAFS images made by nydus-image', () => {
  it.each(VARIANTS)('%s equals the ground truth', (directory, bootstrap, truth, blobId) => {
    const image = openBootstrap(readFileSync(fixture('rafs', directory, bootstrap)), {
      subject: directory,
      ...(blobId === undefined ? {} : { blobId }),
    });
    const rows = rowsOf(image.root(), contentsOf(image, blobsIn(directory)));
    expect(diffTrees(readRows(fixture(truth)), rows, { time: nydusImageTime })).toEqual([]);
  });

  it('dir equals the directory it was made from', () => {
    const image = openBootstrap(readFileSync(fixture('rafs/dir/bootstrap')), { subject: 'dir' });
    const rows = rowsOf(image.root(), contentsOf(image, blobsIn('dir')));
    const time = (expected: Row, actual: Row) => expected.path === '/' || exactTime(expected, actual);
    const differences = diffTrees(readRows(fixture('rafs/dir/source-tree.jsonl')), rows, { time });
    // nydus-image makes two symlinks of two names of one.
    expect(differences.filter((line) => !/^"\/bin\/(hard)?sym": (nlink|link group)/.test(line))).toEqual([]);
    expect(differences).toHaveLength(4);
  });

  it.each(['none', 'chunk-dict'])('%s, a middle layer alone, has every file of its tar', (directory) => {
    const image = openBootstrap(readFileSync(fixture('rafs', directory, 'bootstrap')), { subject: directory });
    const rows = rowsOf(image.root(), contentsOf(image, blobsIn(directory)));
    const last = new Map(readRows(fixture('truth/tame-mini.layer2.jsonl')).map((row) => [row.path, row]));
    const expected = [...last.values()].filter((row) => !['hardlink', 'whiteout', 'opaque'].includes(row.type));
    const inBoth = rows.filter((row) => expected.some(({ path }) => path === row.path));
    const ignore = ['nlink', 'link_group'] as const;
    expect(diffTrees(expected, inBoth, { time: nydusImageTime, ignore })).toEqual([]);
    expect(inBoth.filter((row) => row.type === 'reg').length).toBeGreaterThan(5);
    const others = rows.filter((row) => !inBoth.includes(row));
    // What is left are whiteouts (files to a single layer) and the layer's hard links.
    expect(others.filter((row) => !row.path?.includes('/.wh.') && row.nlink < 2)).toEqual([]);
  });

  it('a bootstrap from inside a blob cannot be opened without the id', () => {
    const bytes = readFileSync(fixture('rafs/inline-meta', `${inline1}.boot`));
    const open = () => openBootstrap(bytes, { subject: 'inline' });
    expect(open).toThrowError(expect.objectContaining({ code: 'FORMAT', field: 'blob_id', offset: 4096 }));
  });
});
