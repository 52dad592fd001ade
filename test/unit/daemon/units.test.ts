/** Images whose chunks lie within units: where the daemon has their chunk info from, and that it needs it once. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readMetas } from '../../../src/cache/blob-metas.ts';
import { type DeviceTables, loadTables, saveTables } from '../../../src/cache/device-tables.ts';
import { makeStores, newName } from '../../../src/cache/layout.ts';
import { metaFilesOf } from '../../../src/cache/metas-beside.ts';
import { defaultConfig } from '../../../src/config/load.ts';
import { metaFetcher } from '../../../src/daemon/meta-fetcher.ts';
import { readDeviceTables } from '../../../src/daemon/read-device-tables.ts';
import { type ImageRecord, recordOf } from '../../../src/daemon/record.ts';
import { Sources } from '../../../src/daemon/sources.ts';
import { needsMeta, type RafsBlob } from '../../../src/formats/rafs/blob.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { codec } from '../../../src/native/codec.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';

const nameOf = ({ name }: DeviceTables): string => name;

describe.skipIf(needs('zstd-napi').reason !== null)('tables of units', () => {
  let dir: string;
  const sources = new Sources(defaultConfig().registry, silentLog);
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-tables-'));
    mkdirSync(join(dir, 'empty'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const record = (bootstrap: string, ...places: string[]): ImageRecord =>
    recordOf({ id: 'x', bootstrap, sources: places.map((path) => ({ directory: { path } })) });
  const ofFixture = (variant: string, ...places: string[]) => record(fixture('rafs', variant, 'bootstrap'), ...places);

  it.each(['batch', 'zran-single', 'zran'])('%s: chunk info comes from where the blobs come from', async (variant) => {
    const tables = await readDeviceTables(ofFixture(variant, join(dir, 'empty'), fixture('rafs', variant)), sources);
    expect(tables.every(({ units }) => units !== null)).toBe(true);
  });

  it('or from beside the bootstrap, and then nobody is asked', async () => {
    const whole = ofFixture('batch', fixture('rafs/batch'));
    const { blobs } = openBootstrap(readFileSync(whole.bootstrap), { subject: 'batch' });
    const fetch = metaFetcher(whole, sources, 1_000, new AbortController().signal);
    const metas = await readMetas(blobs, { kept: async () => null, fetch, subject: 'batch' }, codec());
    cpSync(whole.bootstrap, join(dir, 'bootstrap'));
    const [[id, meta]] = [...metas] as [[string, Buffer]];
    writeFileSync(join(dir, `${id}.blob.meta`), meta);
    const tables = await readDeviceTables(record(join(dir, 'bootstrap'), join(dir, 'empty')), sources);
    expect(tables.map(nameOf)).toEqual((await readDeviceTables(whole, sources)).map(nameOf));
    writeFileSync(join(dir, `${id}.blob.meta`), meta.subarray(0, 5000));
    await expect(readDeviceTables(record(join(dir, 'bootstrap'), join(dir, 'empty')), sources)).rejects.toMatchObject({
      code: 'FORMAT',
    });
  });

  it('or from what came with the bootstrap, put beside it; a lone header is left out', async () => {
    const whole = ofFixture('batch', fixture('rafs/batch'));
    const bytes = readFileSync(whole.bootstrap);
    const { blobs } = openBootstrap(bytes, { subject: 'batch' });
    const fetch = metaFetcher(whole, sources, 1_000, new AbortController().signal);
    const metas = await readMetas(blobs, { kept: async () => null, fetch, subject: 'batch' }, codec());
    const files = await metaFilesOf({ bootstrap: bytes, metas }, 'batch');
    expect([...files.keys()]).toEqual(blobs.filter(needsMeta).map(({ id }) => `${id}.blob.meta`));
    cpSync(whole.bootstrap, join(dir, 'bootstrap'));
    for (const [name, meta] of files) writeFileSync(join(dir, name), meta);
    const tables = await readDeviceTables(record(join(dir, 'bootstrap'), join(dir, 'empty')), sources);
    expect(tables.map(nameOf)).toEqual((await readDeviceTables(whole, sources)).map(nameOf));
    const headers = new Map([...metas].map(([id, meta]) => [id, meta.subarray(-4096)]));
    expect([...(await metaFilesOf({ bootstrap: bytes, metas: headers }, 'batch'))]).toEqual([]);
  });

  it('a file of its own must have its digest, and one that has it is found elsewhere', async () => {
    const [{ metaDigest }] = openBootstrap(readFileSync(fixture('rafs/zran-single/bootstrap')), { subject: 'zran' })
      .blobs as [RafsBlob];
    const place = join(dir, metaDigest!.toString('hex'));
    const bytes = readFileSync(fixture('rafs/zran-single', metaDigest!.toString('hex')));
    // A bit of a window: whatever it says of chunks stays what it was.
    bytes[bytes.length - 5000]! ^= 1;
    writeFileSync(place, bytes);
    await expect(readDeviceTables(ofFixture('zran-single', dir), sources)).rejects.toMatchObject({
      code: 'FORMAT',
      message: expect.stringContaining('blob_meta_digest'),
    });
    const tables = await readDeviceTables(ofFixture('zran-single', dir, fixture('rafs/zran-single')), sources);
    expect(tables).toHaveLength(1);
  });

  it('are refused when it is nowhere', async () => {
    await expect(readDeviceTables(ofFixture('batch', join(dir, 'empty')), sources)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('blob.meta'),
    });
  });

  it.each(['batch', 'encrypted', 'zran-single'])('%s: lie beside the cache, for their owner alone', async (variant) => {
    const [view] = await readDeviceTables(ofFixture(variant, fixture('rafs', variant)), sources);
    const { id, size, storedSize } = view!;
    const tables = nameOf(view!);
    const name = newName(tables, []);
    const { ownDir } = await makeStores(dir, name);
    await saveTables(dir, view!);
    expect(readdirSync(ownDir).toSorted()).toEqual(['table', 'units']);
    expect(statSync(join(ownDir, 'units')).mode & 0o777).toBe(0o600);
    const device = { name, size, storedSize };
    const loaded = await loadTables(dir, device);
    expect({ id: loaded.id, name: nameOf(loaded) }).toEqual({ id, name: tables });
    expect(loaded.units!.bytes.equals(view!.units!.bytes)).toBe(true);

    // What is lost or damaged is not served.
    const bytes = readFileSync(join(ownDir, 'units'));
    bytes[20]! ^= 1;
    writeFileSync(join(ownDir, 'units'), bytes);
    await expect(loadTables(dir, device)).rejects.toMatchObject({ code: 'FORMAT' });
    rmSync(join(ownDir, 'units'));
    await expect(loadTables(dir, device)).rejects.toMatchObject({ code: 'FORMAT' });
  });

  it('two keys for one blob are two devices', async () => {
    const bootstrap = Buffer.from(readFileSync(fixture('rafs/encrypted/bootstrap')));
    const [truth] = await readDeviceTables(ofFixture('encrypted', dir), sources);
    const blobTable = Number(bootstrap.readBigUInt64LE(1152 + 8));
    bootstrap[blobTable + 168]! ^= 1;
    writeFileSync(join(dir, 'bootstrap'), bootstrap);
    const [lie] = await readDeviceTables(record(join(dir, 'bootstrap'), dir), sources);
    expect(lie!.table.bytes.equals(truth!.table.bytes)).toBe(true);
    expect(nameOf(lie!)).not.toBe(nameOf(truth!));
  });
});
