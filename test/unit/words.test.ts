/** Words that readers would have to decode: habits and private names that code, comments, messages and documents avoid. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkout } from '#cache';

interface Habit {
  readonly pattern: RegExp;
  /** What to write instead. */
  readonly instead: string;
  /** A text that has the habit, and a similar one that is plain English. */
  readonly bad: string;
  readonly good: string;
}

const HABITS: readonly Habit[] = [
  {
    pattern: /(?<!\bthere )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|such\b|other\b|larger\b)[a-z]/i,
    instead: 'is not a …',
    bad: 'the file is no archive',
    good: 'there is no archive, and the file is no longer there',
  },
  {
    pattern: /\bnone of (?!the\b|them\b|these\b|those\b|its\b|it\b|which\b|whose\b)/i,
    instead: 'must be one of …',
    bad: 'x is none of a, b',
    good: 'none of them fits',
  },
  {
    pattern: /\b(?:goes|going|went|go) on without\b/i,
    instead: 'what failed, and what is missing because of it',
    bad: 'failed, goes on without',
    good: 'the wait goes on',
  },
  {
    pattern: /\b(?:be|is|are|was|were) had\b/i,
    instead: 'say who could not read, fetch or reach what',
    bad: 'the chunk cannot be had',
    good: 'the chunk had no source',
  },
  { pattern: /\bclean-up\b/i, instead: 'cleanup', bad: 'the next clean-up', good: 'cleanup cleans up' },
  { pattern: /\bwhoever\b/i, instead: 'the process, caller or user', bad: 'whoever waits', good: 'a reader who waits' },
  {
    pattern: /\bso (?:many|much)\b/i,
    instead: 'at most …, Maximum …',
    bad: 'only so many bytes',
    good: 'also many bytes',
  },
  {
    pattern: /^\s*(?:\/\*\*|\*|\/\/|#) (?:What|Who|Whose) [a-z]/,
    instead: 'a comment begins with its subject',
    bad: '/** What a blob is to an image. */',
    good: '/** Tables of one blob. What they hold is verified. */',
  },
  {
    pattern: /(?:\b(?:const|let|readonly) |#)#?(?:known|told|asked|wanted)\b/,
    instead: 'reusableChunks, configured, request, demand',
    bad: 'const wanted = chunks',
    good: 'isKnown(chunks), which are wanted',
  },
  {
    pattern: /\b(?:rooms|ROOMS|verbs?)\b/,
    instead: 'module, command',
    bad: 'one verb in each of three rooms',
    good: 'as long as there is room',
  },
  {
    pattern:
      /\b(?:Testbed|BlobView|DataPlane|KnownChunks|Referring|Settlement|Bringing|bring[A-Z]\w*|TakenLock|ProbeRow)\b/,
    instead: 'Testbed, DeviceTables, ManagedDaemon, DedupSource, ZranIndex, Availability, BlobTransfer',
    bad: 'new DataPlane()',
    good: 'the data plane brings bytes',
  },
];

/** Lines that have a habit for a reason, by their file. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  // A field of the protocol.
  'src/grpc/messages/snapshotter.gen.ts': ['readonly known: boolean;'],
};

function* filesBelow(folder: string, extension: string): Generator<string> {
  for (const entry of readdirSync(join(checkout, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* filesBelow(path, extension);
    else if (path.endsWith(extension)) yield path;
  }
}

const files = [
  ...filesBelow('src', '.ts'),
  ...filesBelow('proto/lacuna', '.proto'),
  ...readdirSync(join(checkout, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  'README.md',
  'ARCHITECTURE.md',
];

function findings(path: string): string[] {
  const allowed = EXCEPTIONS[path] ?? [];
  const lines = readFileSync(join(checkout, path), 'utf8').split('\n');
  return lines.flatMap((line, at) => {
    const habit = allowed.some((text) => line.includes(text)) ? undefined : HABITS.find((it) => it.pattern.test(line));
    return habit === undefined ? [] : [`${path}:${at + 1}: ${line.trim()} (instead: ${habit.instead})`];
  });
}

describe('plain words', () => {
  it.each(HABITS)('the pattern for "$bad" tells it from plain English', ({ pattern, bad, good }) => {
    expect([pattern.test(bad), pattern.test(good)]).toEqual([true, false]);
  });

  it('are used in source, protocols and documents', () => {
    expect(files.length).toBeGreaterThan(100);
    expect(files.flatMap(findings)).toEqual([]);
  });

  it('are checked with lists that have no stale entry', () => {
    for (const [path, texts] of Object.entries(EXCEPTIONS)) {
      const content = readFileSync(join(checkout, path), 'utf8');
      for (const text of texts) expect(content, path).toContain(text);
    }
  });
});
