/** Every variant of RAFS v6 that there is a fixture of, through the library: listing and contents equal the ground truth. */
import {
  copyFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ls } from '../../src/inspect/ls.ts';
import { fixture, layerTars, sha256 } from './layers.ts';
import { END, member } from './tar.ts';
import { diffTrees, nydusImageTime, type Row, readRows } from './tree.ts';

const LAYER1 = 'truth/tame-mini.only-layer1.merged.jsonl';
const MERGED = 'truth/tame-mini.merged.jsonl';
const inline = 'c8a0a67f0e903d64e257ef38f9d967570ec98b3101d4898ca52c792f4e4bb40d';
const inlineToc = 'd13b65e4d824a0fe08d8b4141d4d3f7014744ae30a38051288921e804fb5afab';

/** Variant, file, truth. */
const VARIANTS: ReadonlyArray<readonly [string, string, string]> = [
  ['default', 'bootstrap', LAYER1],
  ['sha256', 'bootstrap', LAYER1],
  ['lz4', 'bootstrap', LAYER1],
  ['chunk-4k', 'bootstrap', LAYER1],
  ['chunk-64k', 'bootstrap', LAYER1],
  ['chunk-16m', 'bootstrap', LAYER1],
  ['batch', 'bootstrap', LAYER1],
  ['encrypted', 'bootstrap', LAYER1],
  ['blob-toc', 'bootstrap', LAYER1],
  ['prefetch', 'bootstrap', LAYER1],
  ['targz', 'bootstrap', LAYER1],
  ['merged', 'bootstrap', MERGED],
  ['inline-meta', `${inline}.boot`, LAYER1],
  ['inline-meta', inline, LAYER1],
  ['inline-meta-toc', `${inlineToc}.boot`, LAYER1],
  ['inline-meta-toc', inlineToc, LAYER1],
  ['zran', 'bootstrap', MERGED],
  ['zran-single', 'bootstrap', LAYER1],
  ['estargz-ref', 'bootstrap', LAYER1],
  ['tarfs', 'bootstrap', MERGED],
];

const TAME = fixture('oci/tame-mini/blobs/sha256');
const copyAll = (from: string, to: string): void => {
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
};

/** A folder with a variant and its blobs; those of some are layers of the ordinary image that they were made of. */
export function variantFolder(work: string, variant: string): string {
  const folder = mkdtempSync(join(work, 'v-'));
  copyAll(fixture('rafs', variant), folder);
  if (variant === 'zran') copyAll(TAME, folder);
  if (variant === 'tarfs') {
    for (const tar of layerTars('oci/tame-mini', 'tame-mini-gzip')) writeFileSync(join(folder, sha256(tar)), tar);
  }
  return folder;
}

/** `without`: variants that this way of reading has no decoder for. */
export function variantsSuite(without: readonly string[] = []): void {
  let work: string;

  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), 'lv-'));
  });
  afterAll(() => rmSync(work, { recursive: true }));

  async function rowsOf(reference: string): Promise<Row[]> {
    const rows: Row[] = [];
    for await (const row of ls(reference, { recursive: true, digests: true, platform: 'linux/amd64' })) rows.push(row);
    return rows;
  }

  it.each(VARIANTS.filter(([variant]) => !without.includes(variant)))('%s (%s)', async (variant, file, truth) => {
    const rows = await rowsOf(`rafs:${join(variantFolder(work, variant), file)}`);
    const differences = diffTrees(readRows(fixture(truth)), rows, { time: nydusImageTime });
    // nydus-image overwrites the end of this target, see the fixtures' README.
    const isKnown = (line: string) => variant === 'tarfs' && line.startsWith('"/links/gnu-long": target');
    expect(differences.filter((line) => !isKnown(line))).toEqual([]);
    expect(differences.length).toBe(variant === 'tarfs' ? 1 : 0);
  });

  it.each(without)('%s is refused by name', async (variant) => {
    const listed = rowsOf(`rafs:${join(variantFolder(work, variant), 'bootstrap')}`);
    await expect(listed).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(variant) });
  });

  it('an image of nydusify that refers to the layers of an ordinary one', async () => {
    const layout = mkdtempSync(join(work, 'l-'));
    cpSync(fixture('nydus-oci/zran'), layout, { recursive: true });
    copyAll(TAME, join(layout, 'blobs/sha256'));
    const rows = await rowsOf(`oci:${layout}`);
    expect(diffTrees(readRows(fixture(MERGED)), rows, { time: nydusImageTime })).toEqual([]);
  });

  it('a bootstrap layer as a file, whose blobs are named elsewhere', async () => {
    const layer = 'a716e9ac02e056f1417d832da082c0cc9883f36f2e1c8142bc353b5f61fde2e9';
    const path = fixture('nydus-oci/zran/blobs/sha256', layer);
    const rows = await rowsOf(`rafs:${path},blobs=${TAME}`);
    expect(diffTrees(readRows(fixture(MERGED)), rows, { time: nydusImageTime })).toEqual([]);
    // Old converters put the bootstrap into the root of the tar.
    const old = join(work, 'old.tar');
    // Behind the headers of the folder and of the bootstrap itself.
    const bootstrap = gunzipSync(readFileSync(path)).subarray(1024, 1024 + 106_496);
    writeFileSync(old, Buffer.concat([member({ name: 'image.boot', data: bootstrap.toString('latin1') }), END]));
    const plain: Row[] = [];
    for await (const row of ls(`rafs:${old},blobs=${TAME}`, { recursive: true })) plain.push(row);
    expect(plain).toEqual(rows.map(({ sha256: _, ...row }) => row));
  });

  it('tells what is not there, or not what it should be', async () => {
    const folder = variantFolder(work, 'zran-single');
    const bootstrap = `rafs:${join(folder, 'bootstrap')}`;
    const meta = 'b2f103e555c6511233e268fe2838e6b6b8badeaa06b0fc3640584c39529b9170';
    renameSync(join(folder, meta), join(folder, 'away'));
    await expect(rowsOf(bootstrap)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('chunk info'),
    });
    writeFileSync(join(folder, meta), readFileSync(join(folder, 'away')).fill(1, 100, 101));
    await expect(rowsOf(bootstrap)).rejects.toMatchObject({ code: 'FORMAT', field: 'blob_meta_digest' });

    const tarfs = variantFolder(work, 'tarfs');
    const tar = join(tarfs, 'fcd7cf43ade98f3aadc4be9d31220c321f2cccc9af1a520be141de4126cdca4c');
    const bytes = readFileSync(tar);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(tar, bytes);
    await expect(rowsOf(`rafs:${join(tarfs, 'bootstrap')}`)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  });
}
