/** Patterns mean what find(1) means by them: it is asked. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { globOf } from '../../../src/inspect/glob.ts';
import { fromText } from '../../../src/tree/node.ts';

const NAMES = [
  ...[
    'a',
    'b',
    'ab',
    'a.txt',
    '.hidden',
    '.x',
    'x.tar.gz',
    'foo (1).txt',
    '{a,b}',
    '!a',
    '#x',
    '$a',
    'a|b',
    'a+b',
    'aab',
  ],
  ...['a*b', 'axb', 'a\nb', '[a', '[', ']', '-', '1a', 'é', 'éx', 'a^b', 'a~', '"a"', '@(a)', '\\', 'a\\b', ' ', '...'],
];
const PATTERNS = [
  ...[
    '*',
    '?',
    '??',
    '.*',
    '*.*',
    '*.txt',
    '*a*',
    'a?b',
    'a\\*b',
    '[!a]',
    '[^a]*',
    '[a-c]',
    '[[:digit:]]*',
    '[[:alpha:]]',
  ],
  ...[
    '{a,b}',
    '!a',
    '@(a)',
    '@(a|b)',
    'a|b',
    'a+b',
    'foo (1)*',
    '(a)',
    '[',
    '[a',
    '[]a]',
    '[]-]',
    '#x',
    '$a',
    'é?',
    '[é]',
  ],
  ...[
    '?',
    '"a"',
    'a^b',
    '*~',
    '\\\\',
    'a\\\\b',
    '*\\.gz',
    'a[!x]b',
    '...',
    '**',
    '*\\(1\\)*',
    '[(]*',
    '*[)]*',
    '[*]*',
    'a[*]b',
  ],
];

/**
 * Ours have ASCII's classes, and glibc falls back to bytes where characters do not match: there names beyond ASCII do
 * not count.
 */
const ASCII_ONLY = new Set(['??', '[[:alpha:]]']);
const isAscii = (name: string): boolean => Buffer.byteLength(name) === name.length;

describe('a pattern', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-glob-'));
  beforeAll(() => {
    for (const name of NAMES) writeFileSync(join(dir, name), '');
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(PATTERNS)('%s matches what find -name matches', (pattern) => {
    const env = { ...process.env, LC_ALL: 'C.UTF-8' };
    const found = execFileSync('find', [dir, '-mindepth', '1', '-name', pattern, '-printf', '%f\\0'], { env });
    const matches = globOf(pattern);
    const counts = (name: string): boolean => !ASCII_ONLY.has(pattern) || isAscii(name);
    const ours = NAMES.filter((name) => counts(name) && matches(fromText(name)));
    expect(ours.sort()).toEqual(found.toString().split('\0').slice(0, -1).filter(counts).sort());
  });

  it('matches names that are no text byte by byte', () => {
    expect(globOf('a?b')('a\xffb')).toBe(true);
    expect(globOf('a*')('a\xff\xfe')).toBe(true);
    expect(globOf('?')(fromText('é'))).toBe(true);
  });

  it('matches over slashes', () => {
    expect(globOf('/usr/*.so')('/usr/lib/x.so')).toBe(true);
    expect(globOf('/usr/*')('/usr')).toBe(false);
    expect(globOf('*/lib/*')('/usr/lib/x.so')).toBe(true);
    expect(globOf('/')('/')).toBe(true);
  });

  it('takes no time over a name that was made for it', () => {
    expect(globOf('*a?a*[a]*a*a*a*b')('a'.repeat(4096))).toBe(false);
  });

  it('that is none is refused', () => {
    expect(() => globOf('')).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(() => globOf('x'.repeat(5000))).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});
