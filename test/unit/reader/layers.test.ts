/** Which layer a path is from, of every type of inode. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { stat } from '../../../src/inspect/stat.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, type Member, member } from '../../kit/tar.ts';

const dir = (name: string): Member => ({ name: `${name}/`, type: '5', mode: 0o755 });
const file = (name: string, data = name): Member => ({ name, data });
const link = (name: string, to: string, type: '1' | '2'): Member => ({ name, type, link: to });

/** Lowest first. */
const LAYERS: ReadonlyArray<readonly Member[]> = [
  [dir('d'), file('d/a'), file('d/b'), dir('gone'), file('gone/x'), link('sym', 'd/a', '2'), file('empty', '')],
  [file('d/b', 'again'), dir('e'), file('e/implied/f'), { name: '.wh.gone', data: '' }, link('hard', 'd/a', '1')],
  [dir('d'), dir('gone'), file('gone/y'), dir('o'), { name: 'e/.wh..wh..opq', data: '' }, file('e/new')],
];

/** Path → number of its layer, by what each layer's tar has in it. */
const WANTED: Readonly<Record<string, number>> = {
  '/d': 2,
  '/d/a': 0,
  '/d/b': 1,
  '/e': 1,
  '/e/new': 2,
  '/empty': 0,
  '/gone': 2,
  '/gone/y': 2,
  '/hard': 0,
  '/o': 2,
  '/sym': 0,
};

const platform = 'linux/amd64';
const skip = needs('addon');

describe('the layer of a path', () => {
  const work = mkdtempSync(join(tmpdir(), 'lacuna-layer-of-'));
  let reference: string;

  beforeAll(() => {
    const layers = LAYERS.map((members) => ({ tar: Buffer.concat([...members.map(member), END]) }));
    reference = sourceLayout(join(work, 'source'), { layers });
  });
  afterAll(() => rmSync(work, { recursive: true }));

  it('is counted for the whole tree: what a container sees of each layer', async () => {
    const { shares } = await inspect(reference, { platform, tree: true });
    // The root, which no layer describes, counts for the lowest.
    const counted = shares!.map(({ index, paths, bytes }) => [index, paths, bytes]);
    expect(counted).toEqual([
      [0, 5, 'd/a'.length],
      [1, 2, 'again'.length],
      [2, 5, 'gone/y'.length + 'e/new'.length],
    ]);
    expect((await inspect(reference, { platform })).shares).toBeNull();
  });

  it('of an ordinary image is the one whose entry made it', async () => {
    const found: Record<string, number | undefined> = {};
    for (const path of Object.keys(WANTED)) {
      const [{ layer }] = (await stat(reference, [path], { platform })) as [Awaited<ReturnType<typeof stat>>[0]];
      found[path] = layer?.index;
      expect(layer?.digest).toMatch(/^sha256:/);
    }
    expect(found).toEqual(WANTED);
    const rows: Record<string, string | undefined> = {};
    for await (const row of ls(reference, { platform, recursive: true, layers: true })) rows[row.path!] = row.layer;
    expect(Object.keys(rows).sort()).toEqual(['/', ...Object.keys(WANTED)]);
    expect(rows['/d']).toBe(rows['/gone/y']);
    expect(rows['/d/a']).toBe(rows['/hard']);
    expect(rows['/d/b']).not.toBe(rows['/d/a']);
  });

  it.skipIf(skip.reason)('of a lazy image is the blob that has its content, and not known without any', async () => {
    const lazy = `oci:${join(work, 'lazy')}:lazy`;
    await convert(reference, lazy);
    const files = await stat(lazy, ['/d/a', '/d/b', '/gone/y', '/empty', '/d'], { platform });
    const [a, b, y, empty, directory] = files.map(({ layer }) => layer);
    expect([a?.index, b?.index, y?.index]).toEqual([0, 1, 2]);
    expect(a?.digest).toBe(`sha256:${files[0]!.chunks[0]!.blob}`);
    expect([empty, directory]).toEqual([null, null]);
  });
});
