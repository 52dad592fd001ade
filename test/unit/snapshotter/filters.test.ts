import { describe, expect, test } from 'vitest';
import { parseFilters } from '../../../src/snapshotter/filters.ts';
import type { SnapshotInfo } from '../../../src/snapshotter/info.ts';

const info = (name: string, rest: Partial<SnapshotInfo> = {}): SnapshotInfo => ({
  name,
  parent: '',
  kind: 'active',
  labels: {},
  created: 0,
  updated: 0,
  ...rest,
});

// The listing of containerd's own conformance suite (snapshots/testsuite, checkWalk), and what containerd sends.
const GC = { 'containerd.io/gc.root': 'check-walk' };
const ALL = [
  info('a-np', { labels: GC }),
  info('p', { kind: 'committed', labels: GC }),
  info('a', { parent: 'p', labels: GC }),
  info('v', { parent: 'p', kind: 'view', labels: GC }),
  info('p-wl', { kind: 'committed', labels: { ...GC, l: '1' } }),
  info('a-wl', { parent: 'p-wl', labels: { ...GC, l: '2' } }),
  info('v-wl', { parent: 'p-wl', kind: 'view', labels: { ...GC, l: '3' } }),
  info('a-np-wl', { labels: { ...GC, l: '2' } }),
  info('sha256:c1', {
    kind: 'committed',
    parent: 'default/1/x y',
    labels: { 'containerd.io/snapshot.ref': 'sha256:c1' },
  }),
];

const names = (...filters: string[]): string[] => ALL.filter(parseFilters(filters)).map(({ name }) => name);

describe('filters', () => {
  test.each<[string[], string[]]>([
    [[], ALL.map(({ name }) => name)],
    [[''], ALL.map(({ name }) => name)],
    [['labels."containerd.io/gc.root"==check-walk'], ALL.slice(0, 8).map(({ name }) => name)],
    [['kind==active,labels."containerd.io/gc.root"==check-walk'], ['a-np', 'a', 'a-wl', 'a-np-wl']],
    [['kind==committed,labels."containerd.io/gc.root"'], ['p', 'p-wl']],
    [
      ['name==p', 'name==a-np-wl'],
      ['p', 'a-np-wl'],
    ],
    [['name==a-wl,labels.l'], ['a-wl']],
    [['parent==p'], ['a', 'v']],
    [['parent!="",labels."containerd.io/gc.root"==check-walk'], ['a', 'v', 'a-wl', 'v-wl']],
    [['labels.l'], ['p-wl', 'a-wl', 'v-wl', 'a-np-wl']],
    [['labels.l==2'], ['a-wl', 'a-np-wl']],
    [['labels."containerd.io/snapshot.ref"==sha256:c1,parent=="default/1/x y"'], ['sha256:c1']],
    [['name~=^a-.*wl$'], ['a-wl', 'a-np-wl']],
    [['name~=/^sha256:[0-9a-f]+$/'], ['sha256:c1']],
    [['nonsense'], []],
    [['nonsense!=x,name==p'], ['p']],
    [['labels.constructor'], []],
  ])('%j', (filters, expected) => {
    expect(names(...filters)).toEqual(expected);
  });

  test.each(['name=p', 'name==', '==p', 'name==p,', 'name==p x', 'labels."open==x', 'name~=(', 'name==p q'])(
    'refuses %j',
    (filter) => {
      expect(() => parseFilters([filter])).toThrow(expect.objectContaining({ code: 'USAGE' }));
    },
  );
});
