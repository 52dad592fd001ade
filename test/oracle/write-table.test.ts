/**
 * What Lacuna writes, for the choices that Nydus knows: every row is read back to the ground truth by Lacuna, by Nydus's own
 * reader, by the kernel and by two libraries, and accepted by `fsck.erofs` and `nydus-image check` 2.2.0.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import { readConverted } from '../kit/converted.ts';
import { devicesOf } from '../kit/devices.ts';
import { erofsMount, fsck } from '../kit/erofs.ts';
import { readerWalk } from '../kit/erofs-readers.ts';
import { imageRows } from '../kit/image-rows.ts';
import { layerTars } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { nydusCheck, nydusMount } from '../kit/nydus.ts';
import { needs } from '../kit/skip.ts';
import { sourceLayout } from '../kit/source-image.ts';
import { diffTrees, nydusReaderTime, type Row, walk } from '../kit/tree.ts';
import { truthWithoutAcl, withoutAcl } from './without-acl.ts';
import {
  dictOptionsOf,
  optionsOf,
  ROWS,
  tableText,
  titleOf,
  traitsOf,
  traitsOfRow,
  unknownTo22,
  type WriteRow,
} from './write-choices.ts';

const skip = needs(
  'root',
  'addon',
  'python3',
  'fuse',
  'erofs',
  'fsck.erofs',
  'zstd-napi',
  'nydus-mount',
  'nydus-image',
  'go-erofs-walk',
  'erofs-rs-walk',
);

it('the rows stand in WRITE-TABLE.md, with what is left out', async () => {
  await expect(tableText()).toMatchFileSnapshot('./WRITE-TABLE.md');
});

const SOURCES = {
  nasty: { tree: 'nasty-mini', layers: 3, truth: 'nasty-mini.merged.jsonl' },
  'tame-1': { tree: 'tame-mini', layers: 1, truth: 'tame-mini.only-layer1.merged.jsonl' },
} as const satisfies Record<WriteRow['source'], unknown>;

const other = (source: WriteRow['source']): WriteRow['source'] => (source === 'nasty' ? 'tame-1' : 'nasty');

describe.skipIf(skip.reason)('what is written', () => {
  const dir = mkdtempSync(join(tmpdir(), 'write-table-'));
  const mountpoint = join(dir, 'mnt');
  const sources = new Map<WriteRow['source'], { readonly reference: string; readonly truth: readonly Row[] }>();

  beforeAll(() => {
    mkdirSync(mountpoint);
    for (const name of ['nasty', 'tame-1'] as const) {
      const { tree, layers, truth } = SOURCES[name];
      const tars = layerTars(join('oci', tree), `${tree}-gzip`).slice(0, layers);
      const reference = sourceLayout(join(dir, name), { layers: tars.map((tar) => ({ tar: withoutAcl(tar) })) });
      sources.set(name, { reference, truth: truthWithoutAcl(truth) });
    }
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it.each(ROWS.map((row) => ({ title: titleOf(row), row })))('$title', async ({ row }) => {
    const { reference, truth } = sources.get(row.source)!;
    const target = mkdtempSync(join(dir, 't-'));
    const to = (name: string): string => `oci:${join(target, 'oci')}:${name}`;
    const options = optionsOf(row);
    const dict = 'dict' in row && row.dict ? to('dict') : null;
    if (dict !== null) await convert(sources.get(other(row.source))!.reference, dict, dictOptionsOf(row));
    const { digest, images } = await convert(
      reference,
      to('lazy'),
      dict === null ? options : { ...options, dicts: [dict] },
    );
    expect(images[0]!.dictionary.length > 0, 'refers to the dictionary').toBe(dict !== null);
    const image = readConverted(join(target, 'oci'), digest);
    expect(traitsOf(image.rafs)).toEqual(traitsOfRow(row));
    expect(diffTrees(truth, await imageRows(to('lazy')))).toEqual([]);
    const bootstrap = join(target, 'image.boot');
    writeFileSync(bootstrap, image.bootstrap);

    let devices: string[];
    {
      await using _ = await nydusMount(bootstrap, image.blobDir, mountpoint, image.metas);
      expect(diffTrees(truth, await walk(mountpoint), { time: nydusReaderTime })).toEqual([]);
      devices = devicesOf(image.rafs, mountpoint, target);
    }
    {
      using _ = erofsMount(bootstrap, devices, mountpoint);
      expect(diffTrees(truth, await walk(mountpoint))).toEqual([]);
    }
    expect(fsck(bootstrap, devices)).toBe('');
    for (const reader of ['go-erofs-walk', 'erofs-rs-walk'] as const) {
      expect(diffTrees(truth, await readerWalk(reader, bootstrap, devices)), reader).toEqual([]);
    }
    if (unknownTo22(row) === null) {
      expect(await nydusCheck(bootstrap, image.blobDir)).toContain('metadata is valid');
    }
    rmSync(target, { recursive: true });
  });
});
