/** What the RAFS writer makes is what Nydus's own reader shows. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { overlay } from '../../src/tree/overlay.ts';
import { fixture, layerTars, parseLayer } from '../kit/layers.ts';
import { makeImage } from '../kit/make-image.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { nydusMount } from '../kit/nydus.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusReaderTime, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'python3', 'addon', 'nydus-mount');

describe.skipIf(skip.reason)("images of our writer, under Nydus's own reader", () => {
  const dir = mkdtempSync(join(tmpdir(), 'rafs-nydus-'));
  const mountpoint = join(dir, 'mnt');
  beforeAll(() => mkdirSync(mountpoint));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it.each([4096, 131_072, 16 * 1024 * 1024])('chunks of %d bytes: no difference', async (chunkSize) => {
    const layers = layerTars('oci/nasty-mini', 'nasty-mini-gzip').map((tar) => parseLayer(tar));
    const root = overlay(layers.map(({ tree }) => tree));
    const bootstrap = await makeImage(root, new Map(layers.flatMap(({ contents }) => [...contents])), chunkSize, dir);
    await using _ = await nydusMount(bootstrap, dir, mountpoint);
    const truth = readRows(fixture('truth/nasty-mini.merged.jsonl'));
    expect(diffTrees(truth, await walk(mountpoint), { time: nydusReaderTime })).toEqual([]);
  });
});
