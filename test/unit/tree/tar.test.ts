import { describe, expect, it } from 'vitest';
import { type TarEntry, TarParser } from '../../../src/tree/tar.ts';
import { feed } from '../../kit/layers.ts';
import { END, gnuLong, type Member, member, pax, paxRecord, sumOf } from '../../kit/tar.ts';

/** Entries and contents of a tar. */
function parse(parts: readonly Buffer[], step?: number): Array<TarEntry & { content: string }> {
  const found: Array<TarEntry & { content: string }> = [];
  const handler = {
    entry: (entry: TarEntry) => void found.push({ ...entry, content: '' }),
    content: (buffer: Buffer, start: number, available: number) => {
      found.at(-1)!.content += buffer.toString('latin1', start, start + available);
      return available;
    },
  };
  const tar = Buffer.concat(parts);
  feed(new TarParser(handler, { subject: 'test' }), tar, step ?? Math.max(tar.length, 1));
  return found;
}

const one = (...parts: Buffer[]): TarEntry & { content: string } => {
  const found = parse([...parts, END]);
  expect(found).toHaveLength(1);
  return found[0]!;
};
const file = (fields: Partial<Member> = {}): Buffer => member({ name: 'f', data: 'hello', ...fields });
const refusing =
  (...parts: Buffer[]) =>
  () =>
    parse([...parts, END]);
const format = (field: string, message: RegExp) =>
  expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) });

describe('headers', () => {
  it('reads a plain file', () => {
    expect(one(file({ mode: 0o104755 }))).toEqual({
      name: 'f',
      type: 'reg',
      linkName: null,
      mode: 0o4755,
      uid: 0,
      gid: 0,
      size: 5,
      mtime: { sec: 1_700_000_000, nsec: 0 },
      rdev: null,
      xattrs: null,
      content: 'hello',
    });
  });

  it.each([
    ['0', 'reg'],
    ['\0', 'reg'],
    ['7', 'reg'],
    ['1', 'hardlink'],
    ['2', 'symlink'],
    ['3', 'char'],
    ['4', 'block'],
    ['5', 'dir'],
    ['6', 'fifo'],
  ])('type %j is a %s', (type, expected) => {
    expect(one(member({ name: 'n', type, link: 'l' }))).toMatchObject({ name: 'n', type: expected });
  });

  it('takes a v7 file whose name ends in a slash for a directory', () => {
    expect(one(member({ name: 'd/', type: '\0', magic: '' }))).toMatchObject({ name: 'd', type: 'dir' });
  });

  it('joins the ustar prefix, but not what GNU and star keep there', () => {
    const prefix = [[345, 'deep/er']] as const;
    expect(one(file({ raw: prefix })).name).toBe('deep/er/f');
    expect(one(file({ raw: prefix, magic: 'ustar  \0' })).name).toBe('f');
    const times = [
      [345, 'p'],
      [476, '00000000001 '],
      [508, 'tar\0'],
    ] as const;
    expect(one(file({ raw: times })).name).toBe('p/f');
    const full = 'd'.repeat(100);
    expect(one(file({ name: full, raw: prefix })).name).toBe(`deep/er/${full}`);
  });

  it('reads numbers with spaces, without a terminator, and in base 256', () => {
    expect(one(file({ raw: [[108, '   17 \0 ']] })).uid).toBe(0o17);
    expect(one(file({ raw: [[108, '12345670']] })).uid).toBe(0o12345670);
    expect(one(file({ raw: [[108, Buffer.from('80000000fffffffe', 'hex')]] })).uid).toBe(0xffff_fffe);
    expect(one(file({ raw: [[136, Buffer.from('ffffffffffffffffffffffff', 'hex')]] })).mtime).toEqual({
      sec: -1,
      nsec: 0,
    });
    expect(one(file({ raw: [[136, Buffer.from('800000000000000200000000', 'hex')]] })).mtime.sec).toBe(2 ** 33);
  });

  it('refuses numbers that cannot be', () => {
    expect(refusing(file({ raw: [[108, 'hello\0']] }))).toThrowError(
      format('tar uid', /at byte 108: not an octal number/),
    );
    expect(refusing(file({ raw: [[108, Buffer.from('80000000ffffffff', 'hex')]] }))).toThrowError(
      format('tar uid', /2\^32-2/),
    );
    expect(refusing(file({ raw: [[108, Buffer.from('ffffffffffffffff', 'hex')]] }))).toThrowError(
      format('tar uid', /-1/),
    );
    const huge = Buffer.from('80ffffffffffffffffffffff', 'hex');
    expect(refusing(file({ raw: [[124, huge]] }))).toThrowError(format('tar size', /2\^53/));
    const negative = Buffer.from('ffffffffffffffffffffff00', 'hex');
    expect(refusing(file({ raw: [[124, negative]] }))).toThrowError(format('tar size', /negative/));
  });

  it('verifies the checksum, unsigned or signed', () => {
    const header = file({ name: 'caf\xe9' });
    expect(one(header).name).toBe('caf\xe9');
    const signed = Buffer.from(header);
    signed.fill(' ', 148, 156);
    signed.write(`${(sumOf(signed.subarray(0, 512)) - 256).toString(8).padStart(6, '0')}\0 `, 148);
    expect(one(signed).name).toBe('caf\xe9');
    const broken = Buffer.from(header);
    broken[0] = 64;
    expect(refusing(member({ name: 'a' }), broken)).toThrowError(
      format('tar checksum', /at byte 660: stored \d+, computed \d+/),
    );
  });

  it('reads device numbers', () => {
    const raw = [
      [329, '0000454\0'],
      [337, '0210560\0'],
    ] as const;
    expect(one(member({ name: 'c', type: '3', raw })).rdev).toEqual({ major: 0o454, minor: 0o210560 });
  });
});

describe('extended headers', () => {
  it('reads GNU long names and link targets', () => {
    const [name, target] = ['n'.repeat(200), 't'.repeat(1000)];
    const found = one(gnuLong('K', target), gnuLong('L', name), member({ name: 'cut', type: '2', link: 'cut' }));
    expect(found).toMatchObject({ name, linkName: target });
  });

  it('applies pax records to the next entry only', () => {
    const records = { path: 'long/name', size: '3', uid: '70000', gid: '4294967294', mtime: '12.25' };
    const [first, second] = parse([pax(records), file({ size: 3, data: 'abc' }), file(), END]);
    expect(first).toMatchObject({ name: 'long/name', size: 3, uid: 70000, gid: 4294967294, content: 'abc' });
    expect(first!.mtime).toEqual({ sec: 12, nsec: 250_000_000 });
    expect(second).toMatchObject({ name: 'f', uid: 0, content: 'hello' });
  });

  it('the size in pax wins over the header', () => {
    expect(one(pax({ size: '5' }), file({ size: 0 })).content).toBe('hello');
  });

  it('floors negative times', () => {
    const time = (mtime: string) => one(pax({ mtime }), file()).mtime;
    expect(time('-1234.5')).toEqual({ sec: -1235, nsec: 500_000_000 });
    expect(time('-1')).toEqual({ sec: -1, nsec: 0 });
    expect(time('-0.000000001')).toEqual({ sec: -1, nsec: 999_999_999 });
    expect(time('1.1234567899')).toEqual({ sec: 1, nsec: 123_456_789 });
    expect(refusing(pax({ mtime: '1e9' }), file())).toThrowError(format('pax mtime', /not a decimal/));
  });

  it('reads xattrs, empty values and newlines included', () => {
    const found = one(pax({ 'SCHILY.xattr.user.a': '', 'SCHILY.xattr.user.b': '\xff\n=\0' }), file());
    expect(found.xattrs).toEqual(
      new Map([
        ['user.a', Buffer.alloc(0)],
        ['user.b', Buffer.from('ff0a3d00', 'hex')],
      ]),
    );
  });

  it('applies global records until they are replaced, and an empty local one takes them away', () => {
    const global = pax({ mtime: '7', 'SCHILY.xattr.user.g': 'x' }, 'g');
    const found = parse([
      global,
      file(),
      pax({ mtime: '8' }),
      file(),
      pax({ mtime: '' }),
      file(),
      pax({ mtime: '' }, 'g'),
      file(),
      END,
    ]);
    expect(found.map(({ mtime }) => mtime.sec)).toEqual([7, 8, 1_700_000_000, 1_700_000_000]);
    expect(found.every(({ xattrs }) => xattrs?.get('user.g')?.toString() === 'x')).toBe(true);
  });

  it.each([
    ['no length', 'hello', /not a decimal number/],
    ['a length beyond the header', '99 path=x\n', /runs out/],
    ['a length that ends inside', '8 path=xyz\n', /newline/],
    ['no equals sign', '8 path=\n'.replace('=', '-'), /no "="/],
    ['no key', '5 =x\n', /empty key/],
  ])('refuses a record with %s', (_, data, message) => {
    expect(refusing(member({ name: 'p', type: 'x', data }), file())).toThrowError(format('pax header', message));
  });

  it('refuses a pax header over 1 MiB and long names over 4096 bytes, without reading them', () => {
    const limit = 1024 * 1024;
    const value = 'v'.repeat(limit - paxRecord('comment', '').length - 12);
    expect(one(pax({ comment: value }), file()).name).toBe('f');
    expect(() => parse([member({ name: 'p', type: 'x', size: limit + 1 })])).toThrowError(
      format('pax header', /1048577 bytes/),
    );
    expect(() => parse([member({ name: 'p', type: 'L', size: 4098 })])).toThrowError(format('GNU long name', /4098/));
  });

  it('refuses sparse files by name', () => {
    expect(refusing(member({ name: 's', type: 'S' }))).toThrowError(format('tar type', /sparse/));
    expect(refusing(pax({ 'GNU.sparse.major': '1' }), file())).toThrowError(format('pax header', /"f" is sparse/));
  });
});

describe('names', () => {
  const name = (path: string) => one(pax({ path }), file()).name;

  it.each([
    ['./a//b/', 'a/b'],
    ['/a/b', 'a/b'],
    ['././a/./b', 'a/b'],
    ['a/../b', 'b'],
    ['./', ''],
    ['/', ''],
    ['.', ''],
    ['a...b/..c', 'a...b/..c'],
  ])('%j is %j', (path, expected) => expect(name(path)).toBe(expected));

  it.each([
    ['../x', /leaves the root/],
    ['a/../../x', /leaves the root/],
    ['/..', /leaves the root/],
    ['a\0b', /NUL/],
    ['x'.repeat(256), /longer than 255/],
    ['x/'.repeat(2049), /longer than 4096/],
  ])('%j is refused', (path, message) => expect(() => name(path)).toThrowError(format('tar name', message)));

  it('keeps targets of symlinks as they are, and normalises those of hard links', () => {
    const link = (type: string, target: string) => one(member({ name: 'l', type, link: target })).linkName;
    expect(link('2', '/abs/../x//y')).toBe('/abs/../x//y');
    expect(link('1', './a//b')).toBe('a/b');
    expect(() => link('1', '../etc/shadow')).toThrowError(format('tar link name', /leaves the root/));
    expect(() => link('2', '')).toThrowError(format('tar link name', /empty/));
  });
});

describe('the stream', () => {
  it('skips unknown types with their data, and data that types without content claim', () => {
    const unknown = member({ name: 'label', type: 'V' });
    const dump = member({ name: 'd', type: 'D', data: 'x'.repeat(700) });
    const sizedLink = member({ name: 'l', type: '1', link: 'f', size: 5 });
    const found = parse([unknown, dump, sizedLink, file(), END]);
    expect(found.map(({ name, content }) => [name, content])).toEqual([
      ['l', ''],
      ['f', 'hello'],
    ]);
  });

  it('ends at two zero blocks and ignores what follows', () => {
    expect(parse([file(), END, Buffer.from('garbage of no whole block')])).toHaveLength(1);
    expect(parse([file(), END, Buffer.alloc(10_240)])).toHaveLength(1);
  });

  it('accepts an end without zero blocks at a border of entries', () => {
    expect(parse([file()])).toHaveLength(1);
    expect(parse([file(), Buffer.alloc(512)])).toHaveLength(1);
    expect(parse([])).toHaveLength(0);
  });

  it('refuses a truncated tar wherever it is cut', () => {
    const whole = Buffer.concat([pax({ path: 'long' }), file()]);
    const border = new Set([0, whole.length]);
    for (let length = 0; length <= whole.length; length += 61) {
      const cut = () => parse([whole.subarray(0, length)]);
      if (border.has(length)) cut();
      else expect(cut).toThrowError(format('tar', /truncated/));
    }
    expect(() => parse([whole.subarray(0, 1024)])).toThrowError(format('tar', /at byte 1024: truncated/));
  });

  it('refuses a single zero block in the middle', () => {
    expect(refusing(file(), Buffer.alloc(512), file())).toThrowError(format('tar', /single zero block/));
  });

  it('gives the same in pieces of any size', () => {
    const parts = [
      pax({ path: 'long/name' }),
      file({ data: 'x'.repeat(3000) }),
      gnuLong('L', 'n/'.repeat(150)),
      file(),
      END,
    ];
    const whole = parse(parts);
    for (const step of [1, 7, 511, 512, 1000]) expect(parse(parts, step)).toEqual(whole);
  });

  it('offers content again that a handler did not take', () => {
    const offers: Array<[number, number]> = [];
    const handler = {
      entry: () => {},
      content: (_: Buffer, __: number, available: number, remaining: number) => {
        offers.push([available, remaining]);
        return available === remaining ? available : available - (available % 1000);
      },
    };
    feed(new TarParser(handler), file({ data: 'x'.repeat(2500) }), 1500);
    expect(offers).toEqual(
      [
        [988, 2500],
        [2488, 2500],
        [488, 500],
        [500, 500],
      ].slice(0, offers.length),
    );
    expect(offers.at(-1)![0]).toBe(offers.at(-1)![1]);
  });

  it('parses 20 000 entries in well under 150 ms', () => {
    const parts: Buffer[] = [];
    for (let i = 0; i < 20_000; i++) parts.push(file({ name: `./usr/share/doc/package-${i % 500}/file-${i}` }));
    const tar = Buffer.concat([...parts, END]);
    const run = () => {
      let count = 0;
      const parser = new TarParser({ entry: () => void count++, content: (_, __, available) => available });
      const begin = performance.now();
      parser.finish(tar.length - parser.push(tar, 0, tar.length));
      expect(count).toBe(20_000);
      return performance.now() - begin;
    };
    expect(Math.min(run(), run(), run())).toBeLessThan(150);
  });
});
