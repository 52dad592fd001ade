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
    const gnuTimes = [
      [345, '14371523510\0'],
      [357, '14371523510\0'],
    ] as const;
    expect(one(file({ raw: gnuTimes, magic: 'ustar  \0' })).name).toBe('f');
    // As Go before 1.8 wrote them, and reads them still.
    expect(one(file({ raw: prefix, magic: 'ustar  \0' })).name).toBe('deep/er/f');
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
    expect(one(file({ raw: [[108, '17\0junk\0']] })).uid).toBe(0o17);
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
    const huge = Buffer.from('80ffffffffffffffffffffff', 'hex');
    expect(refusing(file({ raw: [[124, huge]] }))).toThrowError(format('tar size', /2\^53/));
    const negative = Buffer.from('ffffffffffffffffffffff00', 'hex');
    expect(refusing(file({ raw: [[124, negative]] }))).toThrowError(format('tar size', /negative/));
  });

  it('gives the kernel ids of 32 bits, and root what is no id, as engines do', () => {
    const uid = (hex: string) => one(file({ raw: [[108, Buffer.from(hex, 'hex')]] })).uid;
    expect(uid('80000000ffffffff')).toBe(0);
    expect(uid('ffffffffffffffff')).toBe(0);
    expect(uid('fffffffffffffffe')).toBe(2 ** 32 - 2);
    expect(uid('8000000100000005')).toBe(5);
    const pax32 = (value: string) => one(pax({ uid: value }), file()).uid;
    expect(['4294967301', '-1', '-2', '4294967295', '9223372036854775807'].map(pax32)).toEqual([
      5,
      0,
      2 ** 32 - 2,
      0,
      0,
    ]);
    expect(refusing(pax({ uid: '1e3' }), file())).toThrowError(format('pax uid', /not a decimal/));
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
    const wide = [
      [329, '0010001\0'],
      [337, '7777777\0'],
    ] as const;
    expect(one(member({ name: 'c', type: '3', raw: wide })).rdev).toEqual({ major: 1, minor: 0xfffff });
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
    for (const value of ['1e9', '', '.5', '1.x', '0x1']) {
      if (value === '') expect(time(value).sec).toBe(1_700_000_000);
      else expect(refusing(pax({ mtime: value }), file())).toThrowError(format('pax mtime', /not a decimal/));
    }
  });

  it('takes a time of more than 64 bits of nanoseconds for the epoch, as containerd does', () => {
    const time = (mtime: string) => one(pax({ mtime }), file()).mtime;
    const epoch = { sec: 0, nsec: 0 };
    expect(time('9223372035.5')).toEqual({ sec: 9_223_372_035, nsec: 500_000_000 });
    for (const far of ['9223372037', '9007199254740993.25', '-9223372037', '9'.repeat(30)]) {
      expect(time(far)).toEqual(epoch);
    }
    const raw = Buffer.from('80000000ffffffffffffffff', 'hex');
    expect(one(file({ raw: [[136, raw]] })).mtime).toEqual(epoch);
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

  it('does not apply global records, as docker and containerd do not', () => {
    const found = parse([
      pax({ mtime: '7', 'SCHILY.xattr.user.g': 'x' }, 'g'),
      file(),
      pax({ mtime: '' }),
      file(),
      END,
    ]);
    expect(found.map(({ mtime, xattrs }) => [mtime.sec, xattrs])).toEqual([
      [1_700_000_000, null],
      [1_700_000_000, null],
    ]);
  });

  it('of several headers of a kind the last one counts, and of their kinds GNU\u2019s names', () => {
    expect(one(pax({ path: 'a', uid: '7' }), pax({ path: 'b' }), file())).toMatchObject({ name: 'b', uid: 0 });
    expect(one(gnuLong('L', 'a'), gnuLong('L', 'b'), pax({ path: 'c' }), file()).name).toBe('b');
    const doubled = member({ name: 'p', type: 'x', data: paxRecord('path', 'a') + paxRecord('path', 'b') });
    expect(one(doubled, file()).name).toBe('b');
  });

  it.each([
    ['no length', 'hello', /not a decimal number/],
    ['a length beyond the header', '99 path=x\n', /exceeds the header/],
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
    // The root's parent is the root, as to containerd and umoci.
    ['../x', 'x'],
    ['a/../../x', 'x'],
    ['/..', ''],
  ])('%j is %j', (path, expected) => expect(name(path)).toBe(expected));

  it.each([
    ['a\0b', /NUL/],
    ['x'.repeat(256), /longer than 255/],
    ['x/'.repeat(2049), /longer than 4096/],
  ])('%j is refused', (path, message) => expect(() => name(path)).toThrowError(format('tar name', message)));

  it('takes a whiteout of a name of 255 bytes, but no longer one', () => {
    const longest = 'x'.repeat(255);
    expect(name(`d/.wh.${longest}`)).toBe(`d/.wh.${longest}`);
    expect(() => name(`.wh.${longest}x`)).toThrowError(format('tar name', /longer than 255/));
    expect(() => name(`.wh.${longest}/x`)).toThrowError(format('tar name', /longer than 255/));
  });

  it('keeps targets of symlinks as they are, and normalises those of hard links', () => {
    const link = (type: string, target: string) => one(member({ name: 'l', type, link: target })).linkName;
    expect(link('2', '/abs/../x//y')).toBe('/abs/../x//y');
    expect(link('1', './a//b')).toBe('a/b');
    expect(link('1', '../etc/shadow')).toBe('etc/shadow');
    expect(() => link('2', '')).toThrowError(format('tar link name', /empty/));
  });
});

describe('the stream', () => {
  it('skips unknown types with their data, and data that types without content claim', () => {
    const unknown = member({ name: 'label', type: 'V' });
    expect(refusing(member({ name: 'half', type: 'M', data: 'x' }), file())).toThrowError(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(/"half" is continued/) }),
    );
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

  it('refuses a truncated tar wherever it is cut, but in the padding of the last member', () => {
    const whole = Buffer.concat([pax({ path: 'long' }), file()]);
    const isClean = (length: number) => length === 0 || (length > 512 && length < 1536 ? padded : data)(length);
    const padded = (length: number) => length >= 512 + paxRecord('path', 'long').length && length <= 1024;
    const data = (length: number) => length >= 1536 + 'hello'.length;
    for (let length = 0; length <= whole.length; length++) {
      const cut = () => parse([whole.subarray(0, length)]);
      if (isClean(length)) expect(cut()).toHaveLength(length > 1024 ? 1 : 0);
      else expect(cut, String(length)).toThrowError(format('tar', /truncated/));
    }
    expect(() => parse([whole.subarray(0, 1540)])).toThrowError(format('tar', /at byte 1540: truncated/));
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

  it('takes time in proportion to the number of entries', () => {
    const timeOf = (entries: number): number => {
      const parts: Buffer[] = [];
      for (let i = 0; i < entries; i++) parts.push(file({ name: `./usr/share/doc/package-${i % 500}/file-${i}` }));
      const tar = Buffer.concat([...parts, END]);
      const run = () => {
        let count = 0;
        const parser = new TarParser({ entry: () => void count++, content: (_, __, available) => available });
        const begin = performance.now();
        parser.finish(tar.length - parser.push(tar, 0, tar.length));
        expect(count).toBe(entries);
        return performance.now() - begin;
      };
      return Math.min(run(), run(), run(), run(), run());
    };
    // In proportion it would be 20; the square of that would be 400.
    expect(timeOf(40_000) / timeOf(2000)).toBeLessThan(100);
  });
});
