/** The dictionary that grows: it grows with every conversion, keeps what it was told, and takes several at once. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type Database from 'better-sqlite3';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { NewBlob } from '../../../src/dict/dict.ts';
import { readImageBlobs } from '../../../src/dict/image-dict.ts';
import { dictAdd, dictPrune, dictStat } from '../../../src/dict/manage.ts';
import { SqliteDict } from '../../../src/dict/sqlite-dict.ts';
import type { FileChunk } from '../../../src/tree/node.ts';
import { fixture } from '../../kit/layers.ts';
import { noise } from '../../kit/random.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('better-sqlite3');
const native = needs('addon', 'better-sqlite3');
const built = needs('dist', 'better-sqlite3');

const sqlite = (path: string): Database.Database =>
  new (createRequire(import.meta.url)('better-sqlite3') as typeof Database)(path);

/** A chunk's fields, which may be views of packed ones. */
const plain = (chunk: FileChunk) => ({
  place: [chunk.uncompressedOffset, chunk.uncompressedSize, chunk.compressedOffset, chunk.compressedSize],
  kind: [chunk.compressor, chunk.digester, chunk.crc32c, chunk.within],
  name: [chunk.digest.toString('hex'), chunk.blob, chunk.index],
});

describe.skipIf(skip.reason)('a dictionary that grows', () => {
  const dir = mkdtempSync(join(tmpdir(), 'dict-sqlite-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => mkdtempSync(join(dir, 'd-'));
  const layerOne = `rafs:${fixture('rafs/chunk-dict/layer1.boot')}`;
  const kind = { digester: 0, chunkSize: 1024 * 1024 } as const;

  it('returns the blobs that were added, and adds only new ones', async () => {
    const path = join(fresh(), 'chunks.db');
    const [blob] = await readImageBlobs(layerOne);
    const chunks = [...blob!.chunks];
    {
      using dict = await SqliteDict.open(path);
      const half = { ...blob!, chunks: chunks.slice(0, 5) };
      expect(dict.add([half])).toEqual({ blobs: 1, chunks: 5, places: 0 });
      expect(dict.add([blob!])).toEqual({ blobs: 0, chunks: chunks.length - 5, places: 0 });
      expect(dict.add([{ ...blob!, places: ['docker://a/b'] }])).toEqual({ blobs: 0, chunks: 0, places: 1 });
    }
    // The file alone is the whole database.
    expect([existsSync(`${path}-wal`), existsSync(`${path}-shm`)]).toEqual([false, false]);
    const copy = join(fresh(), 'copy.db');
    copyFileSync(path, copy);
    using dict = await SqliteDict.open(copy, { create: false });
    const { chunks: _, ...told } = blob!;
    expect(dict.blob(blob!.blob.id)).toEqual({ ...told, places: [...told.places, 'docker://a/b'] });
    const digests = Buffer.concat([...chunks.map(({ digest }) => digest), Buffer.alloc(32)]);
    const found = [...dict.lookup(digests, kind).values()];
    expect(found.map((same) => same.map(plain))).toEqual(chunks.map((chunk) => [plain(chunk)]));
    expect(dict.lookup(digests, { ...kind, digester: 1 }).size).toBe(0);
    expect(dict.lookup(digests, { ...kind, chunkSize: 4096 }).size).toBe(0);
    expect(dict.stat()).toMatchObject({ blobs: 1, chunks: chunks.length, blobBytes: told.size });
    expect(dict.ids()).toEqual([told.blob.id]);
    dict.forget(told.blob.id, told.places[0]!);
    expect(dict.stat().places).toEqual([{ place: 'docker://a/b', blobs: 1 }]);
    dict.forget(told.blob.id, 'docker://a/b');
    expect(dict.stat()).toMatchObject({ blobs: 0, chunks: 0, places: [] });
  });

  it('refuses what contradicts it, all of it', async () => {
    using dict = await SqliteDict.open(join(fresh(), 'chunks.db'));
    const [blob] = await readImageBlobs(layerOne);
    dict.add([blob!]);
    const other: NewBlob = { ...blob!, blob: { ...blob!.blob, id: 'a'.repeat(64) } };
    const lie: NewBlob = { ...blob!, blob: { ...blob!.blob, ciOffset: 1, chunkSize: 4096 } };
    expect(() => dict.add([other, lie])).toThrow(
      expect.objectContaining({ code: 'PRECONDITION', message: expect.stringMatching(/another chunkSize, ciOffset/) }),
    );
    expect(dict.ids()).toEqual([blob!.blob.id]);
    // Encrypted, without a place, part of something else: not for others.
    const cipher = { key: Buffer.alloc(32), iv: Buffer.alloc(16) };
    expect(dict.add([{ ...other, blob: { ...other.blob, cipher } }])).toEqual({ blobs: 0, chunks: 0, places: 0 });
    expect(dict.add([{ ...other, places: [] }])).toEqual({ blobs: 0, chunks: 0, places: 0 });
  });

  it('keeps its snapshot for a reader while others add', async () => {
    const path = join(fresh(), 'chunks.db');
    using reader = await SqliteDict.open(path);
    reader.freeze();
    const [blob] = await readImageBlobs(layerOne);
    using writer = await SqliteDict.open(path);
    writer.add([blob!]);
    const digests = Buffer.concat([...blob!.chunks].map(({ digest }) => digest));
    expect(reader.lookup(digests, kind).size).toBe(0);
    expect(reader.add([blob!])).toEqual({ blobs: 0, chunks: 0, places: 0 });
    expect(reader.lookup(digests, kind).size).toBe([...blob!.chunks].length);
  });

  it('refuses a file that is not a dictionary', async () => {
    const path = join(fresh(), 'x.db');
    await expect(SqliteDict.open(path, { create: false })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(SqliteDict.open(join(path, 'no', 'such'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    writeFileSync(path, 'this is a text, and a long one, that is certainly no database of SQLite'.repeat(20));
    await expect(SqliteDict.open(path)).rejects.toMatchObject({ code: 'FORMAT' });
    const foreign = join(fresh(), 'foreign.db');
    const other = sqlite(foreign);
    other.exec('CREATE TABLE t (a)');
    other.close();
    await expect(SqliteDict.open(foreign)).rejects.toMatchObject({ code: 'FORMAT', message: /not a chunk dictionary/ });
    const newer = join(fresh(), 'newer.db');
    (await SqliteDict.open(newer))[Symbol.dispose]();
    const raised = sqlite(newer);
    raised.pragma('user_version = 9');
    raised.close();
    await expect(SqliteDict.open(newer)).rejects.toMatchObject({ code: 'FORMAT', message: /version 9, not 1/ });
    // Damaged in the middle: an error, not a wrong answer.
    const damaged = join(fresh(), 'damaged.db');
    using whole = await SqliteDict.open(damaged);
    whole.add(await readImageBlobs(layerOne));
    whole[Symbol.dispose]();
    const bytes = readFileSync(damaged);
    writeFileSync(damaged, bytes.fill(0xff, 4096, bytes.length));
    await expect(SqliteDict.open(damaged).then((dict) => dict.stat())).rejects.toMatchObject({ code: 'FORMAT' });
  });

  describe.skipIf(native.reason)('with conversions', () => {
    const image = (...seeds: number[]): string => {
      const members = seeds.map((seed) => member({ name: `f${seed}`, data: noise(50_000, seed) }));
      return sourceLayout(fresh(), { layers: [{ tar: Buffer.concat([...members, END]) }] });
    };

    it('knows an image as soon as it has been pushed, and not before', async () => {
      await using registry = await startRegistry();
      const path = join(fresh(), 'chunks.db');
      const options = { dicts: [`sqlite:${path}`] };
      const target = (name: string) => `docker://${registry.host}/${name}:1`;
      registry.fault = ({ method, path }) =>
        method === 'PUT' && path.includes('/manifests/') ? { kind: 'status', status: 403 } : null;
      await expect(convert(image(1, 2), target('a'), options)).rejects.toMatchObject({ code: 'FORBIDDEN' });
      {
        using dict = await SqliteDict.open(path);
        expect(dict.stat()).toMatchObject({ blobs: 0, chunks: 0 });
      }
      registry.fault = () => null;
      const first = await convert(image(1, 2), target('a'), options);
      const second = await convert(image(2, 3, 4), target('b'), options);
      const third = await convert(image(4, 1, 5), target('c'), options);
      const blob = ({ images }: typeof first) => images[0]!.layers[0]!.blob!;
      const names = ({ images }: typeof first) => images[0]!.dictionary.map((row) => [row.blob, row.access]);
      expect(names(first)).toEqual([]);
      expect(names(second)).toEqual([[blob(first), 'mounted']]);
      expect(new Set(names(third).map(([name]) => name))).toEqual(new Set([blob(first), blob(second)]));
      using dict = await SqliteDict.open(path);
      const repository = (name: string) => `docker://${registry.host}/${name}`;
      expect(dict.blob(blob(first).slice(7))!.places).toEqual(['a', 'b', 'c'].map(repository));
      expect(dict.blob(blob(second).slice(7))!.places).toEqual(['b', 'c'].map(repository));
      expect(dict.stat()).toMatchObject({ blobs: 3, chunks: 5 });
    });

    it('in the same state gives the same bytes', async () => {
      const path = join(fresh(), 'chunks.db');
      const target = join(fresh(), 'l');
      await convert(image(1, 2), `oci:${target}:a`, { dicts: [`sqlite:${path}`] });
      await convert(image(2, 3), `oci:${target}:b`, { dicts: [`sqlite:${path}`] });
      const digests: string[] = [];
      for (let i = 0; i < 3; i++) {
        const copy = join(fresh(), 'copy.db');
        copyFileSync(path, copy);
        digests.push((await convert(image(1, 3, 9), `oci:${target}:c`, { dicts: [`sqlite:${copy}`] })).digest);
      }
      expect(new Set(digests).size).toBe(1);
    });

    it('is filled with dict add, and dict prune removes missing blobs', async () => {
      await using registry = await startRegistry();
      const path = join(fresh(), 'chunks.db');
      const layout = join(fresh(), 'l');
      const images = [`docker://${registry.host}/a:1`, `oci:${layout}:b`];
      const blobs: string[] = [];
      for (const [i, target] of images.entries()) {
        const made = await convert(image(10 + i), target);
        blobs.push(made.images[0]!.layers[0]!.blob!.slice(7));
      }
      expect(await dictAdd(path, images, { platform: 'linux/amd64' })).toEqual({ blobs: 2, chunks: 2, places: 0 });
      expect(await dictAdd(path, images, { platform: 'linux/amd64' })).toEqual({ blobs: 0, chunks: 0, places: 0 });
      const places = [`docker://${registry.host}/a`, `oci:${layout}`];
      expect((await dictStat(path)).places).toEqual(places.map((place) => ({ place, blobs: 1 })));
      const quick = { store: { retry: { attempts: 1 } } };
      expect(await dictPrune(path, quick)).toEqual({ places: 0, blobs: 0, unreachable: [] });
      registry.fault = () => ({ kind: 'status', status: 500 });
      rmSync(layout, { recursive: true });
      expect(await dictPrune(path, quick)).toEqual({ places: 1, blobs: 1, unreachable: [places[0]] });
      registry.fault = () => null;
      registry.storage.repository('a').blobs.delete(`sha256:${blobs[0]}`);
      expect(await dictPrune(path, quick)).toEqual({ places: 1, blobs: 1, unreachable: [] });
      expect(await dictStat(path)).toMatchObject({ blobs: 0, chunks: 0, places: [] });
    });

    it('that run at once all add what they have', async () => {
      const path = join(fresh(), 'chunks.db');
      const target = join(fresh(), 'l');
      const options = { dicts: [`sqlite:${path}`] };
      const seeds = Array.from({ length: 6 }, (_, i) => [100 + i, 101 + i]);
      await Promise.all(seeds.map((pair, i) => convert(image(...pair), `oci:${target}:i${i}`, options)));
      using dict = await SqliteDict.open(path);
      expect(dict.stat()).toMatchObject({ blobs: 6, chunks: 12 });
      const { images } = await convert(image(...seeds.flat()), `oci:${target}:all`, options);
      expect(images[0]!.layers[0]!.blob).toBeNull();
    });
  });

  describe.skipIf(built.reason)('in processes of their own', () => {
    const grower = join(import.meta.dirname, 'grower.mjs');
    const start = (path: string, prefix: string, count: number, chunks: number) =>
      spawn(process.execPath, [grower, path, prefix, `${count}`, `${chunks}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    const hash = (of: string): Buffer => createHash('sha256').update(of).digest();

    it('that are killed at any moment lose nothing and leave nothing half done', async () => {
      const path = join(fresh(), 'chunks.db');
      const CHUNKS = 1000;
      const told: string[] = [];
      for (let round = 0; round < 5; round++) {
        const child = start(path, `k${round}`, 10_000, CHUNKS);
        const said = text(child.stdout!);
        // Somewhere within an addition: after the first one was told, and a part of the time that the next one takes.
        await new Promise((resolve) => child.stdout!.once('data', resolve));
        await new Promise((resolve) => setTimeout(resolve, round * 7));
        child.kill('SIGKILL');
        told.push(...(await said).split('\n').filter((line) => line.length === 64));
      }
      using dict = await SqliteDict.open(path);
      const ids = dict.ids();
      expect(ids).toEqual(expect.arrayContaining(told));
      // One more at most for each round: it was added, and not told any more.
      expect(ids.length - told.length).toBeLessThanOrEqual(5);
      expect(dict.stat().chunks).toBe(ids.length * CHUNKS);
      for (const id of ids) {
        const digests = Buffer.concat(Array.from({ length: CHUNKS }, (_, i) => hash(`${id} ${i}`)));
        expect(dict.lookup(digests, { digester: 0, chunkSize: 4096 }).size).toBe(CHUNKS);
        expect(dict.blob(id)!.meta!.toString()).toBe(id);
      }
      const db = sqlite(path);
      expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
      expect(db.pragma('foreign_key_check')).toEqual([]);
      db.close();
    });

    it('wait for each other', async () => {
      const path = join(fresh(), 'chunks.db');
      const children = Array.from({ length: 3 }, (_, i) => start(path, `p${i}`, 5, 200));
      const said = await Promise.all(children.map(({ stdout }) => text(stdout!)));
      using dict = await SqliteDict.open(path);
      expect(dict.ids().toSorted()).toEqual(said.flatMap((lines) => lines.trim().split('\n')).toSorted());
      expect(dict.stat()).toMatchObject({ blobs: 15, chunks: 3000 });
    });
  });
});
