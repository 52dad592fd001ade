/** Questions to images, answered by filtering their ground truth. */
import { describe, expect, it } from 'vitest';
import { type FindOptions, find } from '../../../src/inspect/find.ts';
import { fixture } from '../../kit/layers.ts';
import { type Row, readRows } from '../../kit/tree.ts';

const NASTY = `oci:${fixture('oci/nasty-mini')}:nasty-mini-gzip`;
const TRUTH = readRows(fixture('truth/nasty-mini.merged.jsonl'));
const MERGED = `rafs:${fixture('rafs/merged/bootstrap')}`;

const keyOf = (row: Pick<Row, 'path' | 'path_b64'>): string => row.path ?? `base64:${row.path_b64}`;

async function found(options: FindOptions, reference = NASTY): Promise<string[]> {
  const paths: string[] = [];
  for await (const row of find(reference, { platform: 'linux/amd64', ...options })) paths.push(keyOf(row));
  return paths;
}

const nameOf = (row: Row): string =>
  (row.path ?? Buffer.from(row.path_b64!, 'base64').toString('latin1')).replace(/.*\//s, '');
const modeOf = (row: Row): number => Number.parseInt(row.mode, 8);
const hasChildren = (row: Row): boolean =>
  TRUTH.some(({ path }) => row.path === '/' || path?.startsWith(`${row.path}/`) === true);

describe('find', () => {
  it.each<[string, FindOptions, (row: Row) => boolean]>([
    ['everything', {}, () => true],
    ['names', { name: '*.txt' }, (row) => nameOf(row).endsWith('.txt')],
    ['paths', { wholePath: '/links/*' }, (row) => row.path?.startsWith('/links/') === true],
    ['types', { types: ['symlink', 'fifo'] }, (row) => row.type === 'symlink' || row.type === 'fifo'],
    ['devices', { types: ['char', 'block'] }, (row) => row.type === 'char' || row.type === 'block'],
    [
      'sizes',
      { size: { min: 1000, max: 70_000 } },
      (row) => row.type === 'reg' && row.size! >= 1000 && row.size! <= 70_000,
    ],
    ['an owner', { uid: 0 }, (row) => row.uid === 0],
    ['a group', { gid: 1000 }, (row) => row.gid === 1000],
    ['exact permissions', { perm: { match: 'exactly', mode: 0o644 } }, (row) => modeOf(row) === 0o644],
    ['all of some bits', { perm: { match: 'all', mode: 0o4100 } }, (row) => (modeOf(row) & 0o4100) === 0o4100],
    ['any of some bits', { perm: { match: 'any', mode: 0o7000 } }, (row) => (modeOf(row) & 0o7000) !== 0],
    [
      'attributes',
      { xattr: 'user.*' },
      (row) => Object.keys(row.xattrs ?? {}).some((name) => name.startsWith('user.')),
    ],
    [
      'a depth',
      { maxDepth: 1 },
      (row) => nameOf(row) === row.path?.slice(1) || (row.path === undefined && row.path_b64!.length < 10),
    ],
    [
      'empty files and directories',
      { empty: true },
      (row) => (row.type === 'dir' ? !hasChildren(row) : row.size === 0),
    ],
    ['two things at once', { types: ['dir'], uid: 0, maxDepth: 0 }, (row) => row.path === '/'],
  ])('%s', async (_, options, fits) => {
    const wanted = TRUTH.filter(fits).map(keyOf);
    expect(wanted.length).toBeGreaterThan(0);
    expect(await found(options)).toEqual(wanted);
  });

  it('searches below a path only, through links', async () => {
    const below = TRUTH.filter(({ path }) => /^\/sizes(\/|$)/.test(path ?? '')).map(keyOf);
    expect(await found({ path: '/sizes' })).toEqual(below);
    expect(await found({ path: '/sizes', maxDepth: 0 })).toEqual(['/sizes']);
    await expect(found({ path: '/nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('compares times to the nanosecond, and with a file of the image', async () => {
    const dated = TRUTH.filter(({ implicit, mtime }) => implicit !== true && mtime !== null && mtime.nsec > 0);
    const { sec, nsec } = dated[0]!.mtime!;
    const certain = new Set(TRUTH.filter(({ implicit, touched }) => !implicit && !touched).map(keyOf));
    const wanted = TRUTH.filter(({ mtime: t }) => t !== null && (t.sec > sec || (t.sec === sec && t.nsec > nsec))).map(
      keyOf,
    );
    const ours = await found({ newer: { sec, nsec } });
    expect(ours.filter((path) => certain.has(path))).toEqual(wanted.filter((path) => certain.has(path)));
    expect(await found({ newer: dated[0]!.path! })).toEqual(ours);
  });

  it('finds the files whose content lies in a blob', async () => {
    const all = await found({ types: ['reg'], size: { min: 1 } }, MERGED);
    const ids = new Set<string>();
    const { openImage } = await import('../../../src/reader/open.ts');
    await using image = await openImage(MERGED);
    const together = new Set<string>();
    for (const { id } of image.rafs!.blobs) {
      ids.add(id);
      for (const path of await found({ blob: id.slice(0, 12) }, MERGED)) together.add(path);
    }
    expect(ids.size).toBe(3);
    expect([...together].sort()).toEqual(all.sort());
    await expect(found({ blob: '' }, MERGED)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(found({ blob: 'ff' })).rejects.toMatchObject({ code: 'USAGE' });
  });
});
