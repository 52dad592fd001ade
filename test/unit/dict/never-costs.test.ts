/** Whatever the dictionary knows: a registry stores no more with it than without. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { readImageBlobs } from '../../../src/dict/image-dict.ts';
import { dictAdd } from '../../../src/dict/manage.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { noise } from '../../kit/random.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

type Files = Readonly<Record<string, string>>;
const layer = (files: Files): SourceLayer => ({
  tar: Buffer.concat([...Object.entries(files).map(([name, data]) => member({ name, data })), END]),
});
const A = noise(400_000, 1);
const B = noise(300_000, 2);
const C = noise(200_000, 3);

/** What there is, and what comes: layers of files, some of which hide files of lower layers. */
const PAIRS: Readonly<Record<string, readonly [Files[], Files[]]>> = {
  'a small layer more': [
    [{ a: A, b: B }, { c: C }],
    [{ a: A, b: B }, { c: C }, { small: noise(1000, 4) }],
  ],
  'an upper layer that deletes files of a lower one': [
    [
      { a: A, b: B },
      { '.wh.b': '', c: C },
    ],
    [{ a: A, b: B }, { '.wh.b': '', c: C }, { small: noise(1000, 4) }],
  ],
  'an upper layer that replaces all files of a lower one': [
    [{ a: A }, { a: B }],
    [{ a: A }, { a: B }, { c: C }],
  ],
  'a file that comes back': [[{ a: A, b: B }, { '.wh.a': '' }], [{ x: A }]],
  'another layer of the same files': [[{ a: A, b: B }], [{ b: B, a: A, c: C }]],
  'the same image': [
    [{ a: A, b: B }, { '.wh.b': '' }],
    [{ a: A, b: B }, { '.wh.b': '' }],
  ],
};

describe.skipIf(needs('addon', 'better-sqlite3').reason)('a dictionary never costs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'dict-never-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => mkdtempSync(join(dir, 'n-'));
  const source = (layers: readonly Files[]): string => sourceLayout(fresh(), { layers: layers.map(layer) });

  /** Bytes of all blobs; a registry keeps each once, in whatever repositories it is. */
  const stored = ({ storage }: TestRegistry): number => {
    const all = [...storage.repositories.values()].flatMap(({ blobs }) => [...blobs]);
    return [...new Map(all).values()].reduce((sum, { length }) => sum + length, 0);
  };

  /** Bytes that `after` adds to a registry that has `before`. */
  async function growth(
    [before, after]: readonly [Files[], Files[]],
    repository: string,
    options: ConvertOptions,
    dictOf: ((registry: TestRegistry) => Promise<string>) | null,
  ): Promise<{ bytes: number; reference: string; stop: () => Promise<void> }> {
    const registry = await startRegistry();
    await convert(source(before), `docker://${registry.host}/library/base:1`, options);
    const had = stored(registry);
    const dicts = dictOf === null ? {} : { dicts: [await dictOf(registry)] };
    const reference = `docker://${registry.host}/${repository}:2`;
    await convert(source(after), reference, { ...options, ...dicts });
    return { bytes: stored(registry) - had, reference, stop: async () => await registry[Symbol.asyncDispose]() };
  }

  const dictionaries: Readonly<Record<string, (registry: TestRegistry) => Promise<string>>> = {
    'an image': async ({ host }) => `docker://${host}/library/base:1`,
    'a database': async ({ host }) => {
      const path = join(fresh(), 'chunks.db');
      await dictAdd(path, [`docker://${host}/library/base:1`]);
      return `sqlite:${path}`;
    },
  };
  const cases = Object.entries(PAIRS).flatMap(([name, pair]) =>
    Object.entries(dictionaries).flatMap(([kind, dictOf]) =>
      ['library/base', 'team/app'].map((repository) => [name, kind, repository, pair, dictOf] as const),
    ),
  );
  // Records would recognise the layers of the same repository without a dictionary.
  const options: ConvertOptions = { records: false };

  it.each(cases)('%s, out of %s, into %s', async (_, __, repository, pair, dictOf) => {
    const without = await growth(pair, repository, options, null);
    const having = await growth(pair, repository, options, dictOf);
    try {
      // What the bootstrap layer says of another image's blob counts, too.
      expect(having.bytes).toBeLessThanOrEqual(without.bytes);
      const { manifest, bootstrap } = await inspect(having.reference, { platform: 'linux/amd64' });
      const listed = manifest!.layers.slice(0, -1).map(({ digest }) => digest.slice('sha256:'.length));
      expect(new Set(listed)).toEqual(new Set(bootstrap!.blobs.map(({ id }) => id)));
    } finally {
      await without.stop();
      await having.stop();
    }
  });

  it('because it knows the chunks of files that upper layers hide', async () => {
    await using registry = await startRegistry();
    const [before] = PAIRS['an upper layer that deletes files of a lower one']!;
    const reference = `docker://${registry.host}/library/base:1`;
    await convert(source(before), reference);
    const chunks = (await readImageBlobs(reference)).map(({ chunks: all }) => [...all]);
    const bytes = chunks.flat().reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
    expect(bytes).toBe(A.length + B.length + C.length);
    const data = registry.requests.filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'));
    // Bootstrap, and the ends of the one blob that is not all used.
    expect(data.length).toBeLessThanOrEqual(4);
  });
});
