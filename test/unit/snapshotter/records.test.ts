import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Records } from '../../../src/snapshotter/records.ts';

let directory: string;
let records: Records;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lacuna-records-'));
  records = await Records.open(join(directory, 'metadata.db'));
});
afterEach(async () => {
  records.close();
  await rm(directory, { recursive: true });
});

const NOTHING = () => {};
const active = (name: string, parent = '') =>
  records.create({ name, parent, kind: 'active', labels: {}, content: 'directory' }, NOTHING);
const commit = (key: string, name: string) =>
  records.commit(key, name, { labels: {}, usage: { size: 1, inodes: 2 } }, NOTHING);
const code = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'OK';
};

describe('records', () => {
  test('identifiers are never used again, not even after a restart', async () => {
    expect(active('a').id).toBe(1);
    expect(active('b').id).toBe(2);
    records.remove('b');
    records.close();
    records = await Records.open(join(directory, 'metadata.db'));
    expect(active('c').id).toBe(3);
  });

  test('a commit renames, takes new times and labels, and keeps identifier and parent', async () => {
    active('a');
    commit('a', 'base');
    const before = records.create(
      { name: 'k', parent: 'base', kind: 'active', labels: { old: '1' }, content: 'directory' },
      NOTHING,
    );
    await new Promise((resolve) => setTimeout(resolve, 2));
    records.commit('k', 'name', { labels: { new: '2' }, usage: { size: 4096, inodes: 3 } }, NOTHING);
    const after = records.get('name');
    expect(after).toMatchObject({
      id: before.id,
      parent: 'base',
      kind: 'committed',
      labels: { new: '2' },
      usage: { size: 4096, inodes: 3 },
    });
    expect(after.created).toBeGreaterThan(before.created);
    expect(after.updated).toBe(after.created);
    expect(code(() => records.get('k'))).toBe('NOT_FOUND');
    expect(records.chain('name').map(({ name }) => name)).toEqual(['name', 'base']);
  });

  test('codes of what is refused', () => {
    active('a');
    commit('a', 'base');
    active('child', 'base');
    expect(code(() => active('child'))).toBe('ALREADY_EXISTS');
    expect(code(() => active('x', 'nobody'))).toBe('NOT_FOUND');
    expect(code(() => active('x', 'child'))).toBe('PRECONDITION');
    expect(code(() => active(''))).toBe('USAGE');
    expect(code(() => commit('child', 'base'))).toBe('ALREADY_EXISTS');
    expect(code(() => commit('nobody', 'n'))).toBe('NOT_FOUND');
    expect(code(() => commit('base', 'n'))).toBe('PRECONDITION');
    expect(code(() => records.remove('base'))).toBe('PRECONDITION');
    expect(code(() => records.remove('nobody'))).toBe('NOT_FOUND');
    expect(code(() => records.update('base', {}, ['parent']))).toBe('USAGE');
    expect(code(() => records.update('nobody', {}, []))).toBe('NOT_FOUND');
    expect(records.list().map(({ name }) => name)).toEqual(['base', 'child']);
  });

  test('a change whose directory cannot be placed has not happened', () => {
    const fail = () => {
      throw new Error('no space');
    };
    const snapshot = { name: 'a', parent: '', kind: 'active', labels: {}, content: 'directory' } as const;
    expect(() => records.create(snapshot, fail)).toThrow('no space');
    expect(records.list()).toEqual([]);
    active('a');
    expect(() => records.commit('a', 'n', { labels: {}, usage: { size: 0, inodes: 0 } }, fail)).toThrow('no space');
    expect(records.get('a').kind).toBe('active');
  });

  test('labels: by mask, one by one, all of them; empty ones are dropped', () => {
    const start = active('a');
    records.update('a', { l1: 'v1', l2: 'v2', l3: '' }, []);
    expect(records.get('a').labels).toEqual({ l1: 'v1', l2: 'v2' });
    expect(records.update('a', { l1: 'new', l4: 'v4' }, ['labels.l1', 'labels.l2']).labels).toEqual({ l1: 'new' });
    expect(records.update('a', { 'a.b/c': 'x' }, ['labels.a.b/c']).labels).toEqual({ l1: 'new', 'a.b/c': 'x' });
    const end = records.update('a', { l4: 'v4' }, ['labels']);
    expect(end.labels).toEqual({ l4: 'v4' });
    expect(end.created).toBe(start.created);
    expect(end.updated).toBeGreaterThanOrEqual(start.updated);
  });

  test('a lazy layer is found by chain ID and parent, whatever its name', () => {
    active('a');
    commit('a', 'p1');
    active('b');
    commit('b', 'p2');
    const lazy = (name: string, parent: string) =>
      records.create(
        { name, parent, kind: 'committed', labels: { 'containerd.io/snapshot.ref': 'sha256:x' }, content: 'blob' },
        NOTHING,
      );
    lazy('sha256:x', 'p1');
    expect(records.findLazy('sha256:x', 'p2')).toBeNull();
    lazy('other', 'p2');
    expect(records.findLazy('sha256:x', 'p2')?.name).toBe('other');
    expect(records.findLazy('sha256:y', 'p1')).toBeNull();
  });

  test('a store of another version is refused', async () => {
    const path = join(directory, 'newer.db');
    const db = new Database(path);
    db.pragma('user_version = 7');
    db.close();
    await expect(Records.open(path)).rejects.toMatchObject({ code: 'FORMAT', message: expect.stringContaining('7') });
  });
});
