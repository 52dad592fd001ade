/** Converted images under Nydus's own reader, the kernel and fsck.erofs: no difference from the truth. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import type { ConvertOptions } from '../../src/convert/options.ts';
import { type Converted, readConverted, writeDevices } from '../kit/converted.ts';
import { erofsMount, fsck } from '../kit/erofs.ts';
import { fixture, sha256 } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { nydusMount } from '../kit/nydus.ts';
import { noise } from '../kit/random.ts';
import { needs } from '../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../kit/source-image.ts';
import { END, member } from '../kit/tar.ts';
import { diffTrees, nydusReaderTime, type Row, readRows, walk } from '../kit/tree.ts';

const kernel = needs('root', 'addon', 'python3', 'erofs', 'fsck.erofs', 'zstd-napi', '@napi-rs/blake-hash');
const nydus = needs('root', 'addon', 'python3', 'fuse', 'nydus-mount', 'zstd-napi');

const MIB = 1024 * 1024;

const layer = (files: Readonly<Record<string, string>>): SourceLayer => ({
  tar: Buffer.concat([...Object.entries(files).map(([name, data]) => member({ name, data })), END]),
});

/** Layers that share content in every way: whole files, tails, one layer without anything new, one without content. */
const SHARED: Array<Readonly<Record<string, string>>> = [
  { base: noise(3 * MIB + 100, 1), small: 'small' },
  { copy: noise(3 * MIB + 100, 1) },
  { tail: noise(3 * MIB + 100, 1).slice(MIB), own: noise(MIB, 2), text: 'text '.repeat(100_000) },
  { empty: '' },
];

interface Case {
  readonly what: string;
  readonly source: (dir: string) => string;
  readonly truth: () => readonly Row[];
  readonly options: ConvertOptions;
  /** An image that is converted first, into the same layout, and is the dictionary. */
  readonly base?: string;
}

const fixtureCase = (tree: string, ref: string, options: ConvertOptions = {}): Case => ({
  what: `${ref} ${JSON.stringify(options)}`,
  source: () => `oci:${fixture('oci', tree)}:${ref}`,
  truth: () => readRows(fixture(`truth/${tree}.merged.jsonl`)),
  options,
});

const sharedCase = (options: ConvertOptions): Case => ({
  what: `layers that share content ${JSON.stringify(options)}`,
  source: (dir) => sourceLayout(mkdtempSync(join(dir, 's-')), { layers: SHARED.map(layer) }),
  truth: () => sharedTruth(),
  options,
});

const CASES: Case[] = [
  {
    ...fixtureCase('tame-mini', 'tame-mini-gzip', { level: 9 }),
    what: 'tame-mini-gzip with its upper layers as the dictionary',
    base: `oci:${fixture('oci', 'tame-mini')}:tame-mini-plain-layers-2-3`,
  },
  fixtureCase('nasty-mini', 'nasty-mini-gzip'),
  fixtureCase('nasty-mini', 'nasty-mini-zstd'),
  fixtureCase('nasty-mini', 'nasty-mini-zstd-multi'),
  fixtureCase('nasty-mini', 'nasty-mini-noglobal-gzip', { dedup: 'image' }),
  fixtureCase('tame-mini', 'tame-mini-gzip', { chunkSize: 4096 }),
  fixtureCase('tame-mini', 'tame-mini-zstd', { chunkSize: 16 * MIB, level: 9 }),
  sharedCase({}),
  sharedCase({ dedup: 'image' }),
  sharedCase({ dedup: 'image', chunkSize: MIB }),
];

function sharedTruth(): Row[] {
  const entry = { uid: 0, gid: 0, nlink: 1, xattrs: {} };
  const time = { sec: 1_700_000_000, nsec: 0 };
  const files = SHARED.flatMap((names) => Object.entries(names)).map(([name, data]) => ({
    ...entry,
    path: `/${name}`,
    type: 'reg',
    mode: '0644',
    size: data.length,
    mtime: time,
    sha256: sha256(Buffer.from(data, 'latin1')),
  }));
  return [{ ...entry, path: '/', type: 'dir', mode: '0755', nlink: 2, mtime: null, implicit: true }, ...files];
}

describe('converted images', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-oracle-'));
  const mountpoint = join(dir, 'mnt');
  beforeAll(() => mkdirSync(mountpoint));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  async function converted({ source, options, base }: Case): Promise<Converted> {
    const target = mkdtempSync(join(dir, 't-'));
    rmSync(target, { recursive: true });
    if (base !== undefined) await convert(base, `oci:${target}:base`);
    const dict = base === undefined ? {} : { dicts: [`oci:${target}:base`] };
    const { digest, images } = await convert(source(dir), `oci:${target}:lazy`, { ...options, ...dict });
    expect(images[0]!.dictionary).toHaveLength(base === undefined ? 0 : 2);
    return readConverted(target, digest);
  }

  describe.skipIf(kernel.reason)('under the kernel', () => {
    it.each(CASES)('$what', async (example) => {
      const { bootstrap, devices } = writeDevices(await converted(example), mkdtempSync(join(dir, 'k-')));
      using _ = erofsMount(bootstrap, devices, mountpoint);
      expect(diffTrees(example.truth(), await walk(mountpoint))).toEqual([]);
      expect(fsck(bootstrap, devices)).toBe('');
    });
  });

  describe.skipIf(nydus.reason)("under Nydus's own reader", () => {
    it.each(CASES)('$what', async (example) => {
      const image = await converted(example);
      const bootstrap = join(dir, 'image.boot');
      writeFileSync(bootstrap, image.bootstrap);
      await using _ = await nydusMount(bootstrap, image.blobDir, mountpoint);
      expect(diffTrees(example.truth(), await walk(mountpoint), { time: nydusReaderTime })).toEqual([]);
    });
  });
});
