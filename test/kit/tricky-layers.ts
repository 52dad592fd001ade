/** Images of layers that are unusual and that containerd unpacks: what readers are compared with its tree on. */
import { gzipSync } from 'node:zlib';
import { zstdCompress } from './layers.ts';
import type { SourceLayer } from './source-image.ts';
import { oldSparse, sparse00, sparse01, sparse10 } from './sparse.ts';
import { END, gnuLong, member, pax } from './tar.ts';

const tar = (...members: Buffer[]): Buffer => Buffer.concat([...members, END]);
const plain = (data: Buffer): SourceLayer => ({ tar: data, how: 'none' });
const dir = (name: string, mode = 0o755): Buffer => member({ name, type: '5', mode });
const file = (name: string, data = name): Buffer => member({ name, data });
const symlink = (name: string, link: string): Buffer => member({ name, type: '2', link });
const hardlink = (name: string, link: string): Buffer => member({ name, type: '1', link });
const sparse = {
  size: 300_000,
  parts: [
    [4095, 'ab'],
    [200_000, 'c'.repeat(5000)],
    [299_999, 'd'],
  ],
} as const;
const body = Buffer.concat([file('a', 'a'.repeat(700)), file('last', 'the last one')]);
const skippable = Buffer.from('502a4d18020000002a2a', 'hex');
const longest = 'x'.repeat(255);
const base36 = (fields: Readonly<Record<string, string>>): Buffer => Buffer.concat([pax(fields), file('f')]);

/** Merged /usr, as distributions have it. */
const MERGED = tar(
  dir('usr/', 0o755),
  dir('usr/lib/', 0o750),
  file('usr/lib/libc.so'),
  symlink('lib', 'usr/lib'),
  symlink('lib64', 'usr/lib'),
  symlink('sbin', '/usr/lib'),
  symlink('gone', 'no/where'),
);

/** Name → layers, lowest first. */
export const TRICKY: Readonly<Record<string, readonly SourceLayer[]>> = {
  'a file below a lower symlink': [plain(MERGED), plain(tar(file('lib64/other.so'), file('gone/x')))],
  'a whiteout below a lower symlink': [plain(MERGED), plain(tar(file('sbin/.wh.libc.so', '')))],
  'an entry over a lower symlink': [plain(MERGED), plain(tar(dir('lib/', 0o711), file('lib/driver.so')))],
  'a symlink over a lower directory': [plain(tar(dir('d/'), file('d/x'))), plain(tar(symlink('d', 'e'), dir('e/')))],
  'links within a layer whose folder hides a link': [
    plain(MERGED),
    plain(tar(file('lib/libfoo.so.1'), hardlink('lib/libfoo.so', 'lib/libfoo.so.1'))),
  ],
  'whiteouts of the longest names': [
    plain(tar(dir('d/'), file(`d/kept`), Buffer.concat([pax({ path: `d/${longest}` }), file('cut')]))),
    plain(tar(Buffer.concat([pax({ path: `d/.wh.${longest}` }), file('cut', '')]))),
  ],
  'opaque, also where nothing lies below': [
    plain(tar(dir('d/'), file('d/a'), dir('d/s/'), file('d/s/b'))),
    plain(tar(file('d/.wh..wh..opq', ''), file('d/c'), file('new/.wh..wh..opq', ''), file('new/n'))),
  ],
  'a directory made again above a whiteout': [
    plain(tar(dir('d/', 0o700), file('d/a'))),
    plain(tar(file('.wh.d', ''))),
    plain(tar(file('d/b'))),
  ],
  'whiteout, then the name again': [plain(tar(file('f', 'old'))), plain(tar(file('.wh.f', ''), file('f', 'new')))],
  'a folder that is called like a whiteout': [plain(tar(file('.wh.a/b')))],
  'devices 0:0, which are whiteouts to overlayfs': [
    plain(tar(file('f'), file('kept'))),
    plain(tar(member({ name: 'f', type: '3' }), member({ name: 'none', type: '3' }))),
  ],
  'an attribute of overlayfs, which a tar cannot set': [
    plain(tar(dir('d/'), file('d/a'))),
    plain(tar(pax({ 'SCHILY.xattr.trusted.overlay.opaque': 'y' }), dir('d/'), file('d/b'))),
  ],
  'links that AUFS kept': [
    plain(tar(dir('.wh..wh.plnk/'), file('.wh..wh.plnk/1.2'), hardlink('a', '.wh..wh.plnk/1.2'), hardlink('b', 'a'))),
  ],
  'hard links whose entries say something else than their files': [
    plain(
      tar(
        pax({ 'SCHILY.xattr.user.a': 'old', 'SCHILY.xattr.user.b': 'kept' }),
        file('f'),
        pax({ 'SCHILY.xattr.user.a': 'new', uid: '7', gid: '8', mtime: '12.5' }),
        member({ name: 'g', type: '1', link: 'f', mode: 0o4711 }),
        symlink('s', 'f'),
        pax({ uid: '9', mtime: '13' }),
        member({ name: 't', type: '1', link: 's', mode: 0o600 }),
      ),
    ),
  ],
  'hard links to absolute names, over symlinks of the layer, over files, in chains': [
    plain(
      tar(
        dir('d/'),
        symlink('s', 'd'),
        file('d/f'),
        hardlink('h', 's/f'),
        hardlink('i', '/h'),
        file('j'),
        hardlink('j', 'i'),
        file('d/f', 'replaced'),
      ),
    ),
  ],
  'whiteouts that are folders, symlinks or hard links, or have content': [
    plain(tar(dir('a/'), file('a/x'), file('b'), file('c'), file('d'))),
    plain(tar(dir('.wh.a/'), symlink('.wh.b', 'x'), hardlink('.wh.c', '.wh.b'), file('.wh.d'), file('e'))),
  ],
  'empty layers, one of no bytes': [plain(tar()), plain(tar(file('f'))), plain(Buffer.alloc(0))],
  'sparse in pax 0.0': [plain(tar(sparse00({ name: 's', ...sparse })))],
  'sparse in pax 0.1': [plain(tar(sparse01({ name: 's', ...sparse })))],
  'sparse in pax 1.0': [plain(tar(sparse10({ name: 's', ...sparse })))],
  'no end': [plain(body)],
  'one block of zeros': [plain(Buffer.concat([body, Buffer.alloc(512)]))],
  'no padding': [plain(body.subarray(0, -500))],
  'cut padding': [plain(body.subarray(0, -100))],
  'tape padding': [plain(Buffer.concat([body, Buffer.alloc(9000)]))],
  'something behind the end': [plain(Buffer.concat([body, END, Buffer.from('junk'), file('behind')]))],
  'names that leave the root': [plain(tar(file('../up'), file('a/../../over'), file('/abs'), file('./x//y/../z')))],
  'a global header': [plain(tar(pax({ path: 'other', mtime: '7', 'SCHILY.xattr.user.g': 'x' }, 'g'), file('f')))],
  'headers that replace each other': [
    plain(tar(pax({ path: 'first', uid: '7' }), pax({ path: 'second' }), file('f'))),
    plain(tar(gnuLong('L', 'gnu'), pax({ path: 'pax' }), file('f'), pax({ path: '', uid: '', mtime: '' }), file('g'))),
  ],
  'ids of more than 32 bits': [
    plain(tar(base36({ uid: '4294967301', gid: '4294967295' }))),
    plain(tar(member({ name: 'g', raw: [[108, Buffer.from('8000000100000005', 'hex')]] }))),
  ],
  'times that do not fit': [
    plain(tar(base36({ mtime: '9007199254740993.5' }))),
    plain(tar(member({ name: 'g', raw: [[136, Buffer.from('800000007fffffffffffffff', 'hex')]] }))),
    plain(tar(pax({ mtime: '1700000000.123456789' }), file('h'))),
  ],
  'numbers in all forms': [
    plain(
      tar(
        member({ name: 'a', raw: [[108, '   17 \0 ']] }),
        member({ name: 'b', raw: [[108, '12345670']] }),
        member({ name: 'c', raw: [[108, '17\0junk\0']] }),
        member({ name: 'd', raw: [[100, '\0\0\0\0\0\0\0\0']] }),
        member({ name: 'v7', magic: '' }),
        member({ name: 'v7d/', type: '\0', magic: '' }),
        member({ name: 'old', magic: 'ustar  \0', raw: [[345, 'prefix']] }),
      ),
    ),
  ],
  'devices, and attributes without a value': [
    plain(
      tar(
        member({
          name: 'null',
          type: '3',
          raw: [
            [329, '0000001\0'],
            [337, '0000003\0'],
          ],
        }),
        member({
          name: 'wide',
          type: '4',
          raw: [
            [329, '0010001\0'],
            [337, '7777777\0'],
          ],
        }),
        pax({ 'SCHILY.xattr.user.empty': '', 'SCHILY.xattr.user.some': 'a=b\n', 'LIBARCHIVE.xattr.user.b': 'YQ' }),
        file('x'),
      ),
    ),
  ],
  'names twice': [plain(tar(file('a', 'old'), file('a', 'new'), dir('d/'), file('d/x'), file('d', 'file')))],
  'a tar in a type that says gzip': [{ tar: tar(file('f')), how: 'gzip', stored: tar(file('f')) }],
  'zstd in a type that says gzip': [{ tar: tar(file('f')), how: 'gzip', stored: zstdCompress(tar(file('f'))) }],
  'zstd that begins with a skippable frame': [
    { tar: tar(file('f')), how: 'zstd', stored: Buffer.concat([skippable, zstdCompress(tar(file('f')))]) },
  ],
  'zstd of two frames, and a skippable one behind': [
    {
      tar: tar(file('f')),
      how: 'zstd',
      stored: Buffer.concat([zstdCompress(file('f')), skippable, zstdCompress(END), skippable]),
    },
  ],
};

/** Forms that containerd refuses, though other engines and tars do not: ours is the tree that they make. */
export const REFUSED_BY_CONTAINERD: Readonly<Record<string, readonly SourceLayer[]>> = {
  'old sparse files': [plain(tar(oldSparse({ name: 's', ...sparse })))],
  // Docker looks into all types, containerd into compressed ones.
  'gzip in a type that says tar': [{ tar: tar(file('z')), how: 'none', stored: gzipSync(tar(file('z'))) }],
  'hard links into lower layers': [plain(tar(file('f'))), plain(tar(hardlink('l', 'f')))],
};
