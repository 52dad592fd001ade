/** The oracle itself is right: Nydus's reader shows Nydus's images as the truth says. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { nydusMount } from '../kit/nydus.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'python3', 'nydus-mount');
const fixture = (path: string): string => fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));

describe.skipIf(skip.reason)("Nydus's own reader", () => {
  const mountpoint = mkdtempSync(join(tmpdir(), 'nydus-'));
  afterAll(() => rmSync(mountpoint, { recursive: true }));

  it.each([
    ['default', 'tame-mini.only-layer1'],
    ['blob-toc', 'tame-mini.only-layer1'],
    ['merged', 'tame-mini'],
  ])('shows rafs/%s as the truth says', async (variant, truth) => {
    const image = fixture(`rafs/${variant}`);
    await using _ = await nydusMount(join(image, 'bootstrap'), image, mountpoint);
    const rows = await walk(mountpoint);
    expect(diffTrees(readRows(fixture(`truth/${truth}.merged.jsonl`)), rows, { time: nydusImageTime })).toEqual([]);
  });

  it('says why it cannot mount', async () => {
    await expect(nydusMount('/nowhere', '/tmp', mountpoint)).rejects.toThrow('nydus-mount ended');
  });
});
