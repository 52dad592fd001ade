/** What the daemon remembers of its images, and what it refuses to remember. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AttachRequest, Source } from '../../../src/daemon/api.ts';
import { recordOf } from '../../../src/daemon/record.ts';
import { readRecords, removeRecord, writeRecord } from '../../../src/daemon/record-folder.ts';

const HEX = 'ab'.repeat(32);
const registry = { host: 'localhost:5000', repository: 'some/image', plainHttp: null, ca: '' };
const request: AttachRequest = { id: 'image-1', bootstrap: '/a/bootstrap', sources: [{ registry }] };

describe('a request', () => {
  it('becomes a record, whatever alternatives gRPC leaves in it', () => {
    const sources = [{ registry, directory: null, layout: undefined }, { directory: { path: '/blobs' } }];
    expect(recordOf({ ...request, sources: sources as unknown as Source[], blobIds: [HEX] })).toEqual({
      version: 2,
      id: 'image-1',
      bootstrap: '/a/bootstrap',
      sources: [{ registry }, { directory: { path: '/blobs' } }],
      blobIds: [HEX],
      devices: [],
    });
  });

  const source = (value: object) => ({ sources: [value as Source] });
  it.each<[string, Partial<AttachRequest>, string]>([
    ['no id', { id: '' }, 'id'],
    ['an id that leads elsewhere', { id: '../x' }, 'id'],
    ['an id that is hidden', { id: '.x' }, 'id'],
    ['an id with a slash', { id: 'a/b' }, 'id'],
    ['an id with a line end', { id: 'a\n' }, 'id'],
    ['an id with a zero', { id: 'a\0' }, 'id'],
    ['an id of 129', { id: 'a'.repeat(129) }, 'id'],
    ['a relative bootstrap', { bootstrap: 'a/b' }, 'bootstrap'],
    ['a bootstrap with a zero', { bootstrap: '/a\0b' }, 'bootstrap'],
    ['no source', { sources: [] }, 'sources'],
    ['too many sources', { sources: Array.from({ length: 17 }, () => ({ registry })) }, 'sources'],
    ['a source without a kind', source({}), 'sources.0'],
    ['a registry without a host', source({ registry: { ...registry, host: '' } }), 'sources.0'],
    ['a registry without a repository', source({ registry: { ...registry, repository: '' } }), 'sources.0'],
    ['a relative authority', source({ registry: { ...registry, ca: 'ca.pem' } }), 'sources.0'],
    ['a relative directory', source({ directory: { path: 'blobs' } }), 'sources.0'],
    ['a relative layout', source({ layout: { path: '../layout' } }), 'sources.0'],
    ['a blob id that is a path', { blobIds: ['../../etc/passwd'] }, 'blobIds.0'],
    ['a blob id in capitals', { blobIds: [HEX.toUpperCase()] }, 'blobIds.0'],
  ])('with %s is refused', (_name, change, field) => {
    expect(() => recordOf({ ...request, ...change })).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(`^${field.replaceAll('.', '\\.')}`) }),
    );
  });
});

describe('the folder', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-records-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const device = { name: `${HEX}-${'01'.repeat(16)}-000000000002a`, size: 8192, storedSize: 5000 };
  const record = { ...recordOf(request), devices: [device] };

  it('gives back what was written, in order, for nobody else to read', async () => {
    const other = { ...record, id: 'another' };
    await writeRecord(dir, record);
    await writeRecord(dir, other);
    await writeRecord(dir, { ...record, bootstrap: '/b' });
    expect(await readRecords(dir)).toEqual({ good: [other, { ...record, bootstrap: '/b' }], damaged: [] });
    expect(statSync(join(dir, 'another.json')).mode & 0o777).toBe(0o600);
    await removeRecord(dir, 'another');
    await removeRecord(dir, 'another');
    expect(readdirSync(dir)).toEqual(['image-1.json']);
  });

  it('loses what was being written when the process died', async () => {
    await writeRecord(dir, record);
    writeFileSync(join(dir, 'half.json.tmp'), '{"version":');
    expect(await readRecords(dir)).toEqual({ good: [record], damaged: [] });
    expect(readdirSync(dir)).toEqual(['image-1.json']);
  });

  it('reads a record of version 1, whose devices have no nodes', async () => {
    const name = device.name.split('-').slice(0, 2).join('-');
    const first = { ...record, version: 1, devices: [{ ...device, name }] };
    writeFileSync(join(dir, 'image-1.json'), JSON.stringify(first));
    expect((await readRecords(dir)).good).toEqual([{ ...record, devices: [{ ...device, name }] }]);
  });

  it.each([
    ['is torn', JSON.stringify(record).slice(0, -3), 'record', [device.name]],
    ['is empty', '', 'record', []],
    ['is no object', '[]', 'record', []],
    ['has another version', JSON.stringify({ ...record, version: 3 }), 'version', [device.name]],
    ['has the names of another version', JSON.stringify({ ...record, version: 1 }), 'devices.0.name', [device.name]],
    ['belongs to another file', JSON.stringify({ ...record, id: 'other' }), 'id', [device.name]],
    ['names no device', JSON.stringify({ ...record, devices: [{ ...device, name: '../..' }] }), 'devices.0.name', []],
    [
      'knows no size',
      JSON.stringify({ ...record, devices: [{ ...device, size: -1 }] }),
      'devices.0.size',
      [device.name],
    ],
  ])('with a record that %s names it, and gives back the others', async (_name, text, field, devices) => {
    await writeRecord(dir, { ...record, id: 'good' });
    const path = join(dir, 'image-1.json');
    writeFileSync(path, text);
    const { good, damaged } = await readRecords(dir);
    expect(good.map(({ id }) => id)).toEqual(['good']);
    const error = expect.objectContaining({ code: 'FORMAT', field, subject: path, hint: expect.any(String) });
    expect(damaged).toEqual([{ id: 'image-1', devices, error }]);
    expect(readdirSync(dir)).toEqual(['good.json', 'image-1.json']);
  });

  it('with a record that cannot be read names it as well', async () => {
    await writeRecord(dir, { ...record, id: 'good' });
    mkdirSync(join(dir, 'image-1.json'));
    const { good, damaged } = await readRecords(dir);
    expect([good.length, damaged]).toMatchObject([1, [{ id: 'image-1', error: { code: 'SYSTEM' } }]]);
  });
});
