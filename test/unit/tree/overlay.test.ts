import { describe, expect, it } from 'vitest';
import { overlay } from '../../../src/tree/overlay.ts';
import { parseLayer, rowsOf } from '../../kit/layers.ts';
import { END, member, pax } from '../../kit/tar.ts';

/** One line per entry: `d PATH`, `f PATH CONTENT`, `l PATH TARGET`, `h PATH TARGET`, `c PATH`, `w PATH` (an empty file). */
function layer(...lines: string[]): Buffer {
  const members = lines.map((line, i) => {
    const [kind, path, rest = ''] = line.split(' ');
    const name = path!;
    // The mode tells which layer and entry a directory's metadata came from.
    if (kind === 'd') return member({ name, type: '5', mode: 0o700 + Number(rest) });
    if (kind === 'l') return member({ name, type: '2', link: rest });
    if (kind === 'h') return member({ name, type: '1', link: rest });
    if (kind === 'c') return member({ name, type: '3', mode: 0o600 + i });
    return member({ name, data: rest });
  });
  return Buffer.concat([...members, END]);
}

/** The merged tree as lines, `f PATH CONTENT`; directories with their mode, hard links with their group. */
function merge(...tars: Buffer[]): string[] {
  const layers = tars.map((tar) => parseLayer(tar));
  const contents = new Map(layers.flatMap((one) => [...one.contents]));
  const root = overlay(
    layers.map(({ tree }) => tree),
    'test',
  );
  const texts = new Map([...contents].map(([node, content]) => [node, content.toString()]));
  const walk = new Map(rowsOf(root).map((row) => [row.path!, row]));
  const node = (path: string) =>
    path
      .split('/')
      .filter(Boolean)
      .reduce((at, name) => at.children!.get(name)!, root);
  return [...walk.values()].map((row) => {
    const path = row.path!;
    const group = row.link_group === undefined ? '' : ` =${row.link_group}`;
    if (row.type === 'dir') return `d ${path} ${row.mode}`;
    if (row.type === 'symlink') return `l ${path} ${row.target}${group}`;
    return `${row.type === 'reg' ? 'f' : row.type} ${path} ${texts.get(node(path)) ?? ''}${group}`.trimEnd();
  });
}

const bad = (field: string, message: RegExp) =>
  expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) });

describe('one layer', () => {
  it("makes missing parents, 0755 and nobody else's", () => {
    expect(merge(layer('f a/b/c x'))).toEqual(['d / 0755', 'd /a 0755', 'd /a/b 0755', 'f /a/b/c x']);
  });

  it('lets the later entry win: file, directory metadata, and a file over a directory with all in it', () => {
    expect(merge(layer('f a old', 'f a new'))).toEqual(['d / 0755', 'f /a new']);
    expect(merge(layer('d a 1', 'f a/x in', 'd a 2'))).toEqual(['d / 0755', 'd /a 0702', 'f /a/x in']);
    expect(merge(layer('f a/x/y in', 'f a file'))).toEqual(['d / 0755', 'f /a file']);
    expect(merge(layer('f a file', 'f a/x in'))).toEqual(['d / 0755', 'd /a 0755', 'f /a/x in']);
  });

  it('gives hard links one inode, also to symlinks and through renamed entries', () => {
    expect(merge(layer('f a x', 'h b a', 'l s a', 'h t s'))).toEqual([
      'd / 0755',
      'f /a x =1',
      'f /b x =1',
      'l /s a =2',
      'l /t a =2',
    ]);
    expect(merge(layer('f a x', 'h b a', 'f a other'))).toEqual(['d / 0755', 'f /a other', 'f /b x']);
    expect(merge(layer('h b a', 'f a late'))).toEqual(['d / 0755', 'f /a late =1', 'f /b late =1']);
    expect(merge(layer('f a x', 'h a a'))).toEqual(['d / 0755', 'f /a x']);
  });

  it('follows symlinks in the middle of names, inside the root', () => {
    expect(merge(layer('d usr/lib 5', 'l lib usr/lib', 'f lib/x in'))).toEqual([
      'd / 0755',
      'l /lib usr/lib',
      'd /usr 0755',
      'd /usr/lib 0705',
      'f /usr/lib/x in',
    ]);
    expect(merge(layer('l out ../../../etc', 'f out/x in'))).toContain('f /etc/x in');
    expect(merge(layer('l out /etc', 'f out/x in', 'h y out/x'))).toContain('f /y in =1');
    expect(() => merge(layer('l a b', 'l b a', 'f a/x in'))).toThrowError(bad('path', /loop of symlinks/));
  });

  it('refuses hard links to directories and to nothing', () => {
    expect(() => merge(layer('d a 1', 'h b a'))).toThrowError(
      bad('tar name', /hard link "b" leads to the directory "a"/),
    );
    expect(() => merge(layer('h b a'))).toThrowError(
      bad('tar link name', /hard link "b" to "a", which does not exist/),
    );
    expect(() => merge(layer('h b c', 'h c b'))).toThrowError(bad('tar link name', /does not exist/));
  });

  it('gives an inode what the last hard link to it says, and all attributes, as containerd and docker do', () => {
    const xattr = (name: string, value: string) => pax({ [`SCHILY.xattr.user.${name}`]: value, uid: value });
    const file = member({ name: 'a', data: 'x' });
    const link = member({ name: 'b', type: '1', link: 'a', mode: 0o4711 });
    const { tree } = parseLayer(Buffer.concat([xattr('a', '1'), file, xattr('b', '2'), link, END]));
    const [, a, b] = rowsOf(overlay([tree]));
    expect(a).toMatchObject({ mode: '4711', uid: 2, xattrs: { 'user.a': '31', 'user.b': '32' } });
    expect(b).toEqual({ ...a, path: '/b' });
  });

  it('keeps AUFS bookkeeping and whiteouts out of the tree', () => {
    const lines = [
      'f .wh..wh.aufs x',
      'd .wh..wh.plnk 1',
      'f .wh..wh.plnk/12.34 x',
      'f a x',
      'w .wh.gone',
      'w d/.wh..wh..opq',
    ];
    expect(merge(layer(...lines))).toEqual(['d / 0755', 'f /a x', 'd /d 0755']);
  });

  it('gives names that AUFS linked to a file of its bookkeeping one inode with its content', () => {
    const base = layer(
      'd .wh..wh.plnk 1',
      'f .wh..wh.plnk/12.34 x',
      'h a .wh..wh.plnk/12.34',
      'h b .wh..wh.plnk/12.34',
    );
    expect(merge(base)).toEqual(['d / 0755', 'f /a x =1', 'f /b x =1']);
    expect(merge(layer('f a old'), base)).toEqual(['d / 0755', 'f /a x =1', 'f /b x =1']);
    expect(() => merge(layer('h a .wh..wh.plnk/1'))).toThrowError(bad('tar link name', /"a" to ".wh..wh.plnk\/1"/));
  });

  it.each(['.wh.', '.wh..', '.wh...', 'd/.wh...'])('refuses the whiteout %s', (name) => {
    expect(() => merge(layer(`w ${name}`))).toThrowError(bad('tar name', /a whiteout cannot hide/));
  });

  it('passes over a root that is no directory, and makes folders that are called like whiteouts, as containerd does', () => {
    expect(merge(layer('f ./ x', 'f a x'))).toEqual(['d / 0755', 'f /a x']);
    expect(merge(layer('f .wh.a/b x'))).toEqual(['d / 0755', 'd /.wh.a 0755', 'f /.wh.a/b x']);
  });
});

describe('layers on top of each other', () => {
  const base = layer('d ./ 7', 'd dir 1', 'f dir/a old', 'f dir/b old', 'f file old', 'l link dir');

  it('hides what a whiteout names, wherever it stands, and only in lower layers', () => {
    expect(merge(base, layer('w dir/.wh.a'))).not.toContain('f /dir/a old');
    const again = ['d / 0707', 'd /dir 0701', 'f /dir/a new', 'f /dir/b old', 'f /file old', 'l /link dir'];
    expect(merge(base, layer('w dir/.wh.a', 'f dir/a new'))).toEqual(again);
    expect(merge(base, layer('f dir/a new', 'w dir/.wh.a'))).toEqual(again);
  });

  it('a directory that is hidden and made again has only its new children', () => {
    const expected = ['d / 0707', 'd /dir 0702', 'f /dir/c new', 'f /file old', 'l /link dir'];
    expect(merge(base, layer('w .wh.dir', 'd dir 2', 'f dir/c new'))).toEqual(expected);
    expect(merge(base, layer('d dir 2', 'f dir/c new', 'w .wh.dir'))).toEqual(expected);
  });

  it('an opaque directory shows nothing of the lower one', () => {
    const upper = (...order: string[]) => merge(base, layer(...order));
    const expected = ['d / 0707', 'd /dir 0703', 'f /dir/c new', 'f /file old', 'l /link dir'];
    expect(upper('d dir 3', 'w dir/.wh..wh..opq', 'f dir/c new')).toEqual(expected);
    expect(upper('d dir 3', 'f dir/c new', 'w dir/.wh..wh..opq')).toEqual(expected);
    expect(upper('w .wh..wh..opq', 'f x new')).toEqual(['d / 0707', 'f /x new']);
  });

  it('takes a device 0:0 for the whiteout that it is to overlayfs, and none of its attributes', () => {
    expect(merge(base, layer('c file'))).not.toContain('f /file old');
    expect(merge(base, layer('f file new', 'c file'))).toEqual(merge(base, layer('w .wh.file')));
    expect(merge(base, layer('c file', 'f file new'))).toContain('f /file new');
    const opaque = { 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.user.x': '' };
    const upper = parseLayer(Buffer.concat([pax(opaque), member({ name: 'dir', type: '5' }), END])).tree;
    const rows = rowsOf(overlay([parseLayer(base).tree, upper]));
    expect(rows.find(({ path }) => path === '/dir')).toMatchObject({ xattrs: { 'user.x': '' } });
    expect(rows.map(({ path }) => path)).toContain('/dir/a');
  });

  it('keeps the metadata of lower directories that a layer only passes through', () => {
    expect(merge(base, layer('f dir/c new'))).toContain('d /dir 0701');
    expect(merge(base, layer('d dir 4'))).toContain('d /dir 0704');
    expect(merge(base, layer('f other x'))[0]).toBe('d / 0707');
    expect(merge(base, layer('d ./ 6'))[0]).toBe('d / 0706');
  });

  it('replaces types: file over directory, directory over file and symlink', () => {
    expect(merge(base, layer('f dir now'))).toEqual(['d / 0707', 'f /dir now', 'f /file old', 'l /link dir']);
    expect(merge(base, layer('d file 5', 'f file/x in'))).toContain('f /file/x in');
    expect(merge(base, layer('d link 5', 'f link/x in'))).toEqual(
      expect.arrayContaining(['d /link 0705', 'f /link/x in']),
    );
  });

  it('puts a directory over a lower symlink that leads in circles', () => {
    expect(merge(layer('l c ../c'), layer('d c 1', 'f c/b x'))).toEqual(['d / 0755', 'd /c 0701', 'f /c/b x']);
  });

  it('makes a directory of its own where a lower layer has a symlink, as overlayfs shows it', () => {
    const merged = merge(base, layer('f link/x in', 'w link/.wh.a'));
    expect(merged).toEqual([
      'd / 0707',
      'd /dir 0701',
      'f /dir/a old',
      'f /dir/b old',
      'f /file old',
      // With the mode of what the link led to.
      'd /link 0701',
      'f /link/x in',
    ]);
    expect(merge(layer('l to not/there'), layer('f to/x in'))).toEqual(['d / 0755', 'd /to 0755', 'f /to/x in']);
  });

  it('joins a hard link to the inode of a lower layer, hidden in this one or not', () => {
    const joined = ['f /file old =1', 'f /new old =1'];
    expect(merge(base, layer('h new file'))).toEqual(expect.arrayContaining(joined));
    expect(merge(base, layer('h new file', 'w .wh.file'))).toContain('f /new old');
    expect(merge(base, layer('h new link/a', 'h newer new'))).toEqual(
      expect.arrayContaining(['f /dir/a old =1', 'f /new old =1', 'f /newer old =1']),
    );
    expect(merge(base, layer('h s link'))).toEqual(expect.arrayContaining(['l /link dir =1', 'l /s dir =1']));
    expect(() => merge(base, layer('h d dir'))).toThrowError(bad('tar link name', /"dir", which is a directory/));
  });

  it('leaves the layers as they were', () => {
    const [lower, upper] = [base, layer('f dir/a new', 'w .wh.file')].map((tar) => parseLayer(tar).tree);
    const before = rowsOf(overlay([lower!]));
    overlay([lower!, upper!]);
    expect(rowsOf(overlay([lower!]))).toEqual(before);
  });

  it('takes xattrs and times from the layer that describes a directory', () => {
    const described = Buffer.concat([
      pax({ 'SCHILY.xattr.user.a': '1', mtime: '5' }),
      member({ name: 'dir', type: '5' }),
      END,
    ]);
    const layers = [described, layer('f dir/x in')].map((tar) => parseLayer(tar).tree);
    expect(rowsOf(overlay(layers)).find(({ path }) => path === '/dir')).toMatchObject({
      xattrs: { 'user.a': '31' },
      mtime: { sec: 5, nsec: 0 },
    });
  });

  it('goes 2048 directories deep, and no further', () => {
    const deep = (depth: number) =>
      Buffer.concat([pax({ path: `${'d/'.repeat(depth)}f` }), member({ name: 'f' }), END]);
    expect(merge(deep(2047))).toHaveLength(2049);
    expect(() => merge(deep(2048))).toThrowError(bad('tar name', /longer than 4096/));
  });
});
