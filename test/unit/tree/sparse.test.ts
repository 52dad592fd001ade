/** Sparse members in all of GNU's forms: the file they stand for, and maps that cannot be. */
import { describe, expect, it } from 'vitest';
import { MAX_SPARSE_PARTS } from '../../../src/tree/sparse.ts';
import { type TarEntry, TarParser } from '../../../src/tree/tar.ts';
import { feed } from '../../kit/layers.ts';
import { oldSparse, type Sparse, sparse00, sparse01, sparse10, wholeOf } from '../../kit/sparse.ts';
import { END, member, pax } from '../../kit/tar.ts';

type Found = TarEntry & { content: string; isSparse: boolean; holes: number[] };

/** The files of a tar; `knowsHoles`: a handler that takes holes as such, at most `most` bytes at once. */
function parse(tar: Buffer, step = tar.length, knowsHoles = false, most = Number.POSITIVE_INFINITY): Found[] {
  const found: Found[] = [];
  const handler = {
    entry: (entry: TarEntry, isSparse: boolean) => void found.push({ ...entry, isSparse, content: '', holes: [] }),
    content: (buffer: Buffer, start: number, available: number, remaining: number) => {
      const file = found.at(-1)!;
      expect(remaining).toBe(file.size - file.content.length);
      file.content += buffer.toString('latin1', start, start + available);
      return available;
    },
  };
  const hole = (length: number, remaining: number) => {
    const file = found.at(-1)!;
    expect(remaining).toBe(file.size - file.content.length);
    const taken = Math.min(length, most);
    file.holes.push(taken);
    file.content += '\0'.repeat(taken);
    return taken;
  };
  feed(new TarParser(knowsHoles ? { ...handler, hole } : handler, { subject: 'test' }), tar, step);
  return found;
}

const FORMS = { oldSparse, sparse00, sparse01, sparse10 };
const forms = Object.entries(FORMS);

const file: Sparse = {
  name: 'var/db',
  size: 200_000,
  parts: [
    [4096, 'a'.repeat(700)],
    [70_000, 'b'],
    [70_001, 'c'.repeat(512)],
    [199_999, 'd'],
  ],
};
const many: Sparse = { name: 'm', size: 100_000, parts: Array.from({ length: 60 }, (_, i) => [i * 1000 + 1, `${i}`]) };
const behind = member({ name: 'behind', data: 'x' });

describe.each(forms)('%s', (_, make) => {
  it.each([
    ['holes everywhere', file],
    ['more parts than a header has', many],
    ['nothing but a hole', { name: 'h', size: 1_000_000, parts: [] }],
    [
      'a hole at the end that a part of no bytes marks',
      {
        name: 'e',
        size: 5000,
        parts: [
          [0, 'x'],
          [5000, ''],
        ] as const,
      },
    ],
    ['no hole', { name: 'n', size: 3, parts: [[0, 'abc']] as const }],
    ['nothing', { name: 'z', size: 0, parts: [] }],
  ])('is the whole file: %s', (_name, sparse) => {
    const tar = Buffer.concat([make(sparse), behind, END]);
    for (const step of [tar.length, 1, 511, 513]) {
      for (const knowsHoles of [true, false]) {
        const [found, next] = parse(tar, step, knowsHoles);
        expect(found).toMatchObject({ name: sparse.name, type: 'reg', size: sparse.size, isSparse: true });
        expect(found!.content === wholeOf(sparse)).toBe(true);
        expect(next).toMatchObject({ name: 'behind', content: 'x', isSparse: false });
      }
    }
    if (sparse.size < 100_000) return;
    const [found] = parse(tar, tar.length, true, 30_000);
    expect(found!.content === wholeOf(sparse)).toBe(true);
  });

  it('may be the last member, without padding', () => {
    const tar = make(file);
    const end = tar.length - 512 + ((700 + 1 + 512 + 1) % 512);
    expect(parse(tar.subarray(0, end))[0]!.content === wholeOf(file)).toBe(true);
    expect(() => parse(tar.subarray(0, end - 1))).toThrowError(/truncated/);
  });

  it.each([
    [
      'parts that overlap',
      {
        parts: [
          [0, 'abc'],
          [2, 'x'],
        ],
      },
      /begins before the end/,
    ],
    [
      'parts out of order',
      {
        parts: [
          [10, 'abc'],
          [2, 'x'],
        ],
      },
      /begins before the end/,
    ],
    ['a part beyond the end', { parts: [[9_998, 'abc']] }, /exceeds the file's 10000 bytes/],
    ['less content than parts', { parts: [[0, 'abc']], stored: 2 }, /the parts have 3 bytes, but the member has 2/],
    ['more content than parts', { parts: [[0, 'abc']], stored: 600 }, /the parts have 3 bytes, but the member has 600/],
    ['a size that no file system has', { parts: [], size: 2 ** 45 }, /bytes, not 0 to/],
  ] as ReadonlyArray<[string, Partial<Sparse>, RegExp]>)('refuses %s', (_name, changes, message) => {
    const tar = Buffer.concat([make({ name: 'bad', size: 10_000, parts: [], ...changes }), behind, END]);
    expect(() => parse(tar)).toThrowError(
      expect.objectContaining({ code: 'FORMAT', field: 'sparse map', message: expect.stringMatching(message) }),
    );
  });
});

describe('maps that cannot be', () => {
  const refused = (field: string, message: RegExp, ...parts: Buffer[]) =>
    expect(() => parse(Buffer.concat([...parts, END]))).toThrowError(
      expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) }),
    );
  const v10 = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '100' };

  it('of version 1.0', () => {
    const map = (data: string) => [pax(v10), member({ name: 'f', data })];
    const block = (text: string) => text.padEnd(512, '\n');
    refused('sparse map', /not a decimal number/, ...map(block('one\n')));
    refused('sparse map', /not a decimal number/, ...map(block('\n')));
    refused('sparse map', /not a decimal number/, ...map(block('1\n-1\n5\n')));
    refused('sparse map', /not a decimal number/, ...map(block(`1\n${'1'.repeat(20)}\n5\n`)));
    refused('sparse map', /below 2\^53/, ...map(block('1\n9223372036854775807\n5\n')));
    refused('sparse map', new RegExp(`more than ${MAX_SPARSE_PARTS}`), ...map(block(`${MAX_SPARSE_PARTS + 1}\n`)));
    refused('sparse map', /does not end within/, ...map(`9\n${'0\n'.repeat(5)}`));
    refused('sparse map', /does not end within/, pax(v10), member({ name: 'f' }));
  });

  it('of version 0.x', () => {
    const map = (records: Record<string, string>) => [
      pax({ 'GNU.sparse.size': '9', ...records }),
      member({ name: 'f' }),
    ];
    refused('sparse map', /2 numbers for an unknown/, ...map({ 'GNU.sparse.map': '0,0' }));
    refused('sparse map', /3 numbers for 1 parts/, ...map({ 'GNU.sparse.map': '0,0,1', 'GNU.sparse.numblocks': '1' }));
    refused('pax GNU.sparse.map', /not a decimal/, ...map({ 'GNU.sparse.map': '0,x', 'GNU.sparse.numblocks': '1' }));
    refused('pax header', /out of turn/, ...map({ 'GNU.sparse.numbytes': '1' }));
  });

  it('of the old type in a header that is not GNU\u2019s', () => {
    refused('tar type', /sparse member must have a GNU header/, member({ name: 's', type: 'S' }));
  });

  it('a version that does not exist says nothing, as to Go', () => {
    const records = { 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '100' };
    const [found] = parse(Buffer.concat([pax(records), member({ name: 'f', data: 'hello' }), END]));
    expect(found).toMatchObject({ size: 5, content: 'hello', isSparse: false });
  });
});
