import { describe, expect, it } from 'vitest';
import { diffTrees, nydusImageTime, nydusReaderTime, type Row } from '../kit/tree.ts';

const row = (path: string, fields: Partial<Row> = {}): Row => ({
  path,
  type: 'reg',
  mode: '0644',
  uid: 0,
  gid: 0,
  size: 1,
  mtime: { sec: 5, nsec: 7 },
  nlink: 1,
  xattrs: {},
  sha256: 'aa',
  ...fields,
});

describe('diffTrees', () => {
  it('finds nothing between equal trees, whatever the order of xattrs and the numbers of link groups', () => {
    const left = [row('/a', { link_group: 1, xattrs: { 'user.a': '00', 'user.b': '' } }), row('/b', { link_group: 1 })];
    const right = [
      row('/b', { link_group: 9 }),
      row('/a', { link_group: 9, xattrs: { 'user.b': '', 'user.a': '00' } }),
    ];
    expect(diffTrees(left, right)).toEqual([]);
  });

  it.each([
    ['type', { type: 'fifo' }],
    ['mode', { mode: '4644' }],
    ['uid', { uid: 1 }],
    ['gid', { gid: 1 }],
    ['size', { size: 2 }],
    ['nlink', { nlink: 2 }],
    ['rdev', { rdev: { major: 1, minor: 3 } }],
    ['target', { target: 'x' }],
    ['target_b64', { target_b64: '/w==' }],
    ['xattrs', { xattrs: { 'user.empty': '' } }],
    ['sha256', { sha256: 'bb' }],
    ['mtime', { mtime: { sec: 5, nsec: 8 } }],
    ['link group', { link_group: 1 }],
  ] as const)('names a difference in %s', (field, change) => {
    const found = diffTrees([row('/a')], [row('/a', change)]);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`"/a": ${field} is `);
  });

  it('names missing and unexpected paths, also those that are not UTF-8', () => {
    const { path: _, ...bytes } = row('');
    expect(diffTrees([row('/a')], [{ ...bytes, path_b64: 'L/8=' }])).toEqual([
      '"/a": missing',
      'base64:L/8=: not expected',
    ]);
  });

  it('names two hard-link groups that became one', () => {
    const names = ['/a', '/b', '/c', '/d'];
    const two = names.map((name, index) => row(name, { link_group: index >> 1 }));
    const one = names.map((name) => row(name, { link_group: 1 }));
    expect(diffTrees(two, one)).toHaveLength(4);
  });

  it('does not compare times that the truth leaves open', () => {
    const actual = [row('/', { type: 'dir', mtime: { sec: 99, nsec: 0 } })];
    for (const open of [{ touched: true }, { implicit: true }, { mtime: null }]) {
      expect(diffTrees([row('/', { type: 'dir', ...open })], actual)).toEqual([]);
    }
  });

  it('knows what Nydus does to times, and nothing more', () => {
    const at = (sec: number, nsec = 0): Row[] => [row('/a', { mtime: { sec, nsec } })];
    expect(diffTrees(at(0), at(1_800_000_000), { time: nydusReaderTime })).toEqual([]);
    expect(diffTrees(at(5), at(6), { time: nydusReaderTime })).toHaveLength(1);
    expect(diffTrees(at(5, 7), at(5), { time: nydusReaderTime })).toHaveLength(1);
    expect(diffTrees(at(5, 7), at(5), { time: nydusImageTime })).toEqual([]);
    expect(diffTrees(at(-9), at(1_800_000_000), { time: nydusImageTime })).toEqual([]);
    expect(diffTrees(at(5), at(6), { time: nydusImageTime })).toHaveLength(1);
  });
});
