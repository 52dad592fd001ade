import { describe, expect, it } from 'vitest';
import { overlay } from '../../../src/tree/overlay.ts';
import { type Contents, fixture, layerTars, parseLayer, rowsOf } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, readRows } from '../../kit/tree.ts';

const IMAGES = [
  ['oci/nasty-mini', 'nasty-mini-gzip', 'nasty-mini'],
  ['oci/nasty-mini', 'nasty-mini-zstd', 'nasty-mini'],
  ['oci/nasty-mini', 'nasty-mini-zstd-multi', 'nasty-mini'],
  ['oci/nasty-mini', 'nasty-mini-noglobal-gzip', 'nasty-mini'],
  ['oci/tame-mini', 'tame-mini-gzip', 'tame-mini'],
  ['oci/tame-mini', 'tame-mini-zstd', 'tame-mini'],
] as const;

const skip = needs('zstd-napi');

describe.skipIf(skip.reason)('layers of the fixtures, parsed and merged', () => {
  it.each(IMAGES)('%s %s equals the ground truth', (layout, ref, truth) => {
    const layers = layerTars(layout, ref).map((tar) => parseLayer(tar));
    const contents: Contents = new Map(layers.flatMap((layer) => [...layer.contents]));
    const merged = rowsOf(overlay(layers.map(({ tree }) => tree)), contents);
    expect(diffTrees(readRows(fixture('truth', `${truth}.merged.jsonl`)), merged)).toEqual([]);
    expect(merged.filter((row) => row.sha256 !== undefined).length).toBeGreaterThan(100);
  });

  it('is the same tree whatever the size of the pieces', () => {
    const tars = layerTars('oci/nasty-mini', 'nasty-mini-gzip');
    const rows = (step: number | undefined) => {
      const layers = tars.map((tar) => parseLayer(tar, step));
      return rowsOf(overlay(layers.map(({ tree }) => tree)), new Map(layers.flatMap((layer) => [...layer.contents])));
    };
    const whole = rows(undefined);
    for (const step of [512, 513, 4096, 100_001]) expect(rows(step)).toEqual(whole);
  });
});
