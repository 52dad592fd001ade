/** The folders of the cache: what an image still needs stays, all else goes. */
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
import { afterEach, beforeEach, expect, it } from 'vitest';
import { formatDevice, makeStores, newName, parseDevice, sweep } from '../../../src/cache/layout.ts';

const [A, B] = ['a', 'b'].map((digit) => digit.repeat(64)) as [string, string];

let cache: string;
beforeEach(() => {
  cache = join(mkdtempSync(join(tmpdir(), 'lacuna-cache-')), 'cache');
});
afterEach(() => rmSync(join(cache, '..'), { recursive: true }));

/** A device's folders with something in each; gives the device's name. */
async function fill(blob: string, table: string): Promise<string> {
  const device = formatDevice({ blob, table, node: 3 });
  const { sharedDir, ownDir } = await makeStores(cache, device);
  for (const dir of [sharedDir, ownDir])
    for (const name of ['data', 'map']) writeFileSync(join(dir, name), blob + name);
  return device;
}

const folders = (): string[] =>
  readdirSync(cache)
    .flatMap((blob) => readdirSync(join(cache, blob)).map((name) => `${blob[0]}/${name}`))
    .sort();

it('names of devices are read as they were made', () => {
  const name = { blob: A, table: '0123', node: 2 ** 48 + 1 };
  expect(parseDevice(formatDevice(name))).toEqual(name);
});

it('nodes of new devices are nobody else’s', () => {
  const names = new Set<string>();
  for (let count = 0; count < 100; count++) names.add(newName(`${A}-0123`, names));
  const nodes = new Set([...names].map((name) => parseDevice(name).node));
  expect(nodes.size).toBe(100);
  expect(Math.min(...nodes)).toBeGreaterThanOrEqual(3);
});

it('keeps what is named, whole, and removes the rest', async () => {
  const kept = await fill(A, '01');
  await fill(A, '02');
  await fill(B, '03');
  expect(statSync(cache).mode & 0o077).toBe(0);
  await sweep(cache, [kept, kept]);
  expect(folders()).toEqual(['a/01', 'a/data', 'a/map']);
  expect(readFileSync(join(cache, A, '01', 'data'), 'utf8')).toBe(`${A}data`);
  await sweep(cache, []);
  expect(readdirSync(cache)).toEqual([]);
});

it('a folder that is named and not there is none that could be removed', async () => {
  mkdirSync(cache);
  await sweep(cache, [formatDevice({ blob: A, table: '01', node: 3 })]);
  expect(readdirSync(cache)).toEqual([]);
});

it('finishes what a death in the middle of a sweep left', async () => {
  const kept = await fill(A, '01');
  for (const name of ['0', '1', `${process.pid}-1`])
    mkdirSync(join(cache, '.trash', name, 'full'), { recursive: true });
  await fill(B, '02');
  await sweep(cache, [kept]);
  expect(existsSync(join(cache, '.trash'))).toBe(false);
  expect(folders()).toEqual(['a/01', 'a/data', 'a/map']);
});
