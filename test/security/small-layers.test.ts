/** Layers of a few kilobytes that would make gigabytes of themselves: each has a bound that it cannot pass. */
import { describe, expect, it } from 'vitest';
import { MAX_SPARSE_CHUNKS } from '../../src/convert/assembly.ts';
import { BlobChunks } from '../../src/convert/blob-chunks.ts';
import { decodeTree } from '../../src/convert/tree-record.ts';
import { MAX_BOOTSTRAP_LAYER } from '../../src/formats/rafs/limits.ts';
import { readBootstrapTar } from '../../src/reader/bootstrap.ts';
import { MAX_TREE_MEMORY, TreeBudget } from '../../src/tree/budget.ts';
import { LayerFile } from '../../src/tree/file.ts';
import { LayerBuilder } from '../../src/tree/layer.ts';
import type { FileChunk } from '../../src/tree/node.ts';
import { MAX_LINK_COMPONENTS } from '../../src/tree/resolve.ts';
import { DEFAULT_MAX_PAX, type TarEntry, TarParser } from '../../src/tree/tar.ts';
import { gnuLong, member, pax } from '../kit/tar.ts';

const refused = (field: string, message: RegExp) =>
  expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) });

const entry = (fields: Partial<TarEntry> = {}): TarEntry => ({
  name: 'x',
  type: 'reg',
  linkName: null,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 0, nsec: 0 },
  rdev: null,
  xattrs: null,
  ...fields,
});

describe('headers that describe a member', () => {
  const parse = (...parts: Buffer[]): number => {
    let members = 0;
    const parser = new TarParser({ entry: () => void members++, content: (_b, _s, available) => available });
    const tar = Buffer.concat(parts);
    parser.push(tar, 0, tar.length);
    return members;
  };
  const third = pax({ comment: 'x'.repeat(DEFAULT_MAX_PAX / 3) });

  it('are bounded all together', () => {
    expect(() => parse(third, third, third, member({ name: 'a' }))).toThrowError(
      refused('pax header', /more than 1048576 bytes of headers describe one member/),
    );
    const names = Array.from({ length: 300 }, () => gnuLong('L', 'n'.repeat(4000)));
    expect(() => parse(...names)).toThrowError(refused('GNU long name', /describe one member/));
  });

  it('are counted anew for each member', () => {
    const file = member({ name: 'a' });
    expect(parse(third, third, file, third, third, file, third, third, file)).toBe(3);
  });
});

describe('the tree of a layer', () => {
  /** How many entries are taken before the budget is used up. */
  const taken = (builder: LayerBuilder, make: (i: number) => TarEntry, limit: number): number => {
    for (let i = 0; i < limit; i++) {
      try {
        builder.add(make(i));
      } catch (error) {
        expect(error).toEqual(refused('layer', /need more than \d+ bytes of memory/));
        return i;
      }
    }
    return limit;
  };

  it('pays for the symlinks that paths lead through', () => {
    const budget = new TreeBudget();
    const builder = new LayerBuilder('test', budget);
    const target = (i: number) => `${'./'.repeat(2000)}${i}`;
    for (let i = 0; i < 39; i++) builder.add(entry({ name: `${i}`, type: 'symlink', linkName: target(i + 1) }));
    builder.add(entry({ name: '39/f' }));
    let links = 0;
    const link = () => builder.add(entry({ name: `l${links}`, type: 'hardlink', linkName: '0/f' }));
    expect(() => {
      for (; links < 10_000; links++) link();
    }).toThrowError(refused('layer', /lead through symlinks of more than \d+ components/));
    expect(links).toBe(Math.floor(MAX_LINK_COMPONENTS / (39 * 2001)));
    // Of another image.
    expect(new LayerBuilder('test').add(entry())).not.toBeNull();
  });

  it('adds the attributes of a hard link without copying those that are there', () => {
    const builder = new LayerBuilder();
    const file = builder.add(entry({ xattrs: new Map([['user.0', Buffer.alloc(1)]]) }))!;
    const { xattrs } = file;
    for (let i = 1; i < 100; i++) {
      const own = new Map([[`user.${i}`, Buffer.alloc(1)]]);
      builder.add(entry({ name: 'l', type: 'hardlink', linkName: 'x', xattrs: own }));
    }
    expect(file.xattrs).toBe(xattrs);
    expect(xattrs!.size).toBe(100);
  });

  const spent = (bytes: number): TreeBudget => {
    const budget = new TreeBudget();
    const value = Buffer.alloc(bytes);
    budget.entry(entry({ xattrs: new Map([['user.x', value]]) }), 'test');
    return budget;
  };

  it('pays for directories that only paths name', () => {
    const path = (i: number) => `${i}/${'d/'.repeat(1000)}f`;
    const builder = new LayerBuilder('test', spent(MAX_TREE_MEMORY - 8 * 1024 * 1024));
    const entries = taken(builder, (i) => entry({ name: path(i) }), 1000);
    // Each brings a thousand directories.
    expect(entries).toBeLessThan(20);
    expect(entries).toBeGreaterThan(2);
  });

  it.each<[string, (i: number) => TarEntry, number]>([
    ['files', (i) => entry({ name: `${i}` }), 300],
    ['directories', (i) => entry({ name: `${i}`, type: 'dir' }), 700],
    ['one name again and again', () => entry(), 300],
    ['links to nothing', (i) => entry({ name: `${i}`, type: 'hardlink', linkName: 'nothing' }), 300],
    ['attributes', (i) => entry({ xattrs: new Map([[`user.${i}`, Buffer.alloc(10_000)]]) }), 11_000],
    ['link targets', (i) => entry({ name: `${i}`, type: 'symlink', linkName: 'y'.repeat(4000) }), 4400],
  ])('pays for %s', (_, make, most) => {
    const room = 4 * 1024 * 1024;
    const builder = new LayerBuilder('test', spent(MAX_TREE_MEMORY - room));
    const entries = taken(builder, make, room);
    expect(entries).toBeLessThan(room / 200);
    expect(entries).toBeGreaterThan(room / most / 1.2);
  });

  it('has room for millions of files', () => {
    const budget = new TreeBudget();
    const file = entry({ name: 'usr/share/doc/package/copyright' });
    for (let i = 0; i < 2_500_000; i++) budget.entry(file, 'test');
  });
});

describe('a file of one chunk again and again', () => {
  const chunk = { uncompressedSize: 4096 } as FileChunk;
  const other = { uncompressedSize: 4096 } as FileChunk;

  it('keeps it once, and gives it as often as it came', () => {
    const file = new LayerFile(entry());
    const source = { chunk: (index: number) => (index === 0 ? chunk : other) };
    file.addOwnChunk(source, 0);
    file.addOwnChunk(source, 0, 3);
    file.addOwnChunk(source, 1);
    file.addOwnChunk(source, 0);
    file.addOwnChunk(source, 0);
    expect(file.chunks).toEqual([chunk, chunk, chunk, chunk, other, chunk, chunk]);
    file.chunks = [other, other, chunk];
    expect(file.chunks).toEqual([other, other, chunk]);
    file.chunks = [];
    expect(file.chunks).toEqual([]);
  });
});

describe('a bootstrap layer without end', () => {
  const MIB = 1024 * 1024;
  /** A tar whose only member claims to be as long as `size`, in pieces of 8 MiB. */
  async function* endless(size: string, taken: { pieces: number }): AsyncGenerator<Buffer> {
    yield member({ name: 'zeros', raw: [[124, Buffer.from(`8000${size.padStart(20, '0')}`, 'hex')]] });
    const zeros = Buffer.alloc(8 * MIB);
    for (;;) {
      taken.pieces++;
      yield zeros;
    }
  }

  it('is read up to its bound', async () => {
    const taken = { pieces: 0 };
    await expect(readBootstrapTar(endless('ffffffffffff', taken), 'test')).rejects.toThrowError(
      refused('layer', /more than \d+ bytes when decompressed/),
    );
    expect(taken.pieces).toBeLessThanOrEqual(MAX_BOOTSTRAP_LAYER / (8 * MIB) + 1);
  });

  it('ends when nobody waits for it any more', async () => {
    const taken = { pieces: 0 };
    const abort = new AbortController();
    const reading = readBootstrapTar(endless('ffffffffffff', taken), 'test', {
      signal: abort.signal,
      onTar: () => {
        if (taken.pieces === 5) abort.abort();
      },
    });
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED', subject: 'test' });
    expect(taken.pieces).toBeLessThan(8);
  });
});

describe('the record of a layer', () => {
  const CHUNK = 4096;
  const chunks = new BlobChunks(0, 3);
  chunks.add(Buffer.alloc(32), CHUNK);
  const decode = (count: number) => {
    const lines = [
      ['d', '', 0o755, 0, 0, 0, 0, null, 1, null],
      ['f', 'zeros', 0o644, 0, 0, 0, 0, null, count * CHUNK, [0, -count], null],
    ].map((fields) => JSON.stringify(fields));
    return decodeTree(lines, { chunks, chunkSize: CHUNK, budget: new TreeBudget(), subject: 'test' });
  };

  it('gives a file as many chunks as it may have, and no more', () => {
    expect(decode(1000).root.children!.get('zeros')!.chunks).toHaveLength(1000);
    for (const count of [MAX_SPARSE_CHUNKS + 1, 2 ** 40]) {
      expect(() => decode(count)).toThrowError(expect.objectContaining({ code: 'FORMAT', field: 'node 2' }));
    }
  });
});
