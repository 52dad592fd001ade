/** `lacuna export`: the kernel and fsck.erofs read from one file what the truth says of the image. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ExportResult, exportImage } from '../../src/convert/export.ts';
import { fixture } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { variantFolder } from '../kit/rafs-variants.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'erofs', 'loop', 'fsck.erofs', 'addon', 'python3');

const LAYER1 = 'tame-mini.only-layer1.merged.jsonl';
const MERGED = 'tame-mini.merged.jsonl';
/** One of each kind of chunks: their sizes, compressors, batches, gzip spans, encryption, several blobs, none at all. */
const VARIANTS: ReadonlyArray<readonly [variant: string, truth: string]> = [
  ['default', LAYER1],
  ['lz4', LAYER1],
  ['chunk-4k', LAYER1],
  ['chunk-64k', LAYER1],
  ['batch', LAYER1],
  ['encrypted', LAYER1],
  ['zran', MERGED],
  ['zran-single', LAYER1],
  ['merged', MERGED],
  ['tarfs', MERGED],
];

const withoutSetId = (rows: readonly Row[]): Row[] =>
  rows.map((row) => ({ ...row, mode: (Number.parseInt(row.mode, 8) & 0o1777).toString(8) }));

describe.skipIf(skip.reason)('lacuna export', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-x-'));
  const exported = new Map<string, ExportResult>();

  const exportVariant = async (variant: string, path: string): Promise<ExportResult> =>
    await exportImage(`rafs:${join(variantFolder(dir, variant), 'bootstrap')}`, path);

  beforeAll(async () => {
    for (const [variant] of VARIANTS)
      exported.set(variant, await exportVariant(variant, join(dir, `${variant}.erofs`)));
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  describe.each(VARIANTS)('of the image %s', (variant, truth) => {
    // nydus-image overwrote the end of one target in the tarfs image, see the fixtures' README.
    const isDamaged = ({ path }: Row): boolean => variant === 'tarfs' && path === '/links/gnu-long';
    const sound = (rows: readonly Row[]): Row[] => rows.filter((row) => !isDamaged(row));
    const expected = sound(readRows(fixture('truth', truth)));

    it('is mounted by mount(8) over a loop device and shows the truth', async () => {
      const target = join(dir, `${variant}.mnt`);
      mkdirSync(target);
      execFileSync('mount', ['-t', 'erofs', '-o', 'loop,ro', exported.get(variant)!.path, target]);
      try {
        expect(diffTrees(expected, sound(await walk(target)), { time: nydusImageTime })).toEqual([]);
      } finally {
        execFileSync('umount', [target]);
      }
    });

    it('is checked and extracted by fsck.erofs, without a device', async () => {
      const out = join(dir, `${variant}.out`);
      const { status, stdout, stderr } = spawnSync('fsck.erofs', [`--extract=${out}`, exported.get(variant)!.path]);
      expect(`${stdout}${stderr}`).not.toMatch(/<E>/);
      expect(status).toBe(0);
      // It restores neither hard links nor attributes, and its chown(2) takes the set-id bits away.
      const ignore = ['nlink', 'link_group', 'xattrs'] as const;
      expect(
        diffTrees(withoutSetId(expected), withoutSetId(sound(await walk(out))), { time: nydusImageTime, ignore }),
      ).toEqual([]);
    });
  });

  it('is the same file whenever it is made, and says how large it is', async () => {
    const first = exported.get('merged')!;
    writeFileSync(join(dir, 'again'), 'something that is replaced');
    const again = await exportVariant('merged', join(dir, 'again'));
    const digest = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
    expect(digest(again.path)).toBe(digest(first.path));
    expect(statSync(first.path).size).toBe(first.size);
    const { reference: _, path: __, ...figures } = first;
    expect(again).toMatchObject(figures);
    // Content stands once however many files have it; zeros take no room.
    const files = readRows(fixture('truth', MERGED)).filter(({ type }) => type === 'reg');
    expect(first.contentSize).toBeLessThan(files.reduce((sum, { size }) => sum + size!, 0));
    expect(statSync(first.path).blocks * 512).toBeLessThan(first.size);
  });

  it('leaves nothing behind when a chunk is damaged, and replaces only regular files', async () => {
    const folder = join(dir, 'damaged');
    mkdirSync(folder);
    const [id] = readdirSync(fixture('rafs/default')).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const blob = readFileSync(fixture('rafs/default', id!));
    blob[Math.floor(blob.length / 2)]! ^= 1;
    writeFileSync(join(folder, id!), blob);
    const reference = `rafs:${fixture('rafs/default/bootstrap')},blobs=${folder}`;
    const before = readdirSync(folder);
    await expect(exportImage(reference, join(folder, 'x.erofs'))).rejects.toMatchObject({
      code: expect.stringMatching(/^(DIGEST_MISMATCH|FORMAT)$/),
    });
    expect(readdirSync(folder)).toEqual(before);
    await expect(exportImage(reference, folder)).rejects.toMatchObject({ code: 'USAGE' });
    expect(existsSync(folder)).toBe(true);
  });

  it('says what to do with an ordinary image', async () => {
    const reference = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
    const failed = exportImage(reference, join(dir, 'x'), { platform: 'linux/amd64' });
    await expect(failed).rejects.toMatchObject({ code: 'USAGE', hint: expect.stringContaining('convert') });
  });
});
