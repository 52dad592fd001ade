/** The public API is documented: every exported symbol, and every member of what is exported, says what it is. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { apiOf, undocumented } from '../../scripts/api-model.mjs';
import * as lacuna from '../../src/index.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const built = needs('dist');

describe.skipIf(built.reason)('the API reference', () => {
  it.each(['index', 'reader-entry'])('of %s documents every symbol and every member', (entry) => {
    const api = apiOf(join(checkout, 'dist', `${entry}.d.ts`));
    expect(api.length).toBeGreaterThan(100);
    expect(undocumented(api)).toEqual([]);
  });

  it('has every function and constant that a program can import', () => {
    const names = apiOf(join(checkout, 'dist', 'index.d.ts')).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(Object.keys(lacuna)));
  });

  it('is written by one command', async () => {
    const { stdout, stderr } = await run(process.execPath, [join(checkout, 'scripts', 'api.mjs')]);
    expect(stderr).toBe('');
    const [whole] = stdout.trimEnd().split('\n');
    const page = readFileSync(whole!, 'utf8');
    for (const text of ['### convert\n', 'declare function snapshotter(', '### ConvertOptions\n']) {
      expect(page).toContain(text);
    }
  });
});

describe('the search for missing documentation', () => {
  it('follows re-exports and looks at members, of overloads only at the first', () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-api-'));
    const write = (name: string, ...lines: string[]) => writeFileSync(join(dir, name), `${lines.join('\n')}\n`);
    try {
      write(
        'index.d.ts',
        "export type { A, B as C } from './types.ts';",
        "export * from './more.ts';",
        "export declare const run: typeof import('./more.ts').start;",
      );
      write(
        'types.d.ts',
        '/** A. */',
        'export interface A { /** Good. */ good: 1; bad: { nested: 2 }; }',
        'export type B = { one: 1 };',
      );
      write(
        'more.d.ts',
        "import type { Hidden } from 'elsewhere';",
        '/** Starts. */',
        'export declare function start(): Hidden;',
        'export declare function start(a: number): Hidden;',
        '/** D. */',
        'export declare class D { private a; protected b; c: 1; }',
      );
      const api = apiOf(join(dir, 'index.d.ts'));
      expect(api.map(({ name, kind }) => `${kind} ${name}`)).toEqual([
        ...['interface A', 'type C', 'class D', 'function run', 'function start'],
      ]);
      expect(undocumented(api)).toEqual(['A.bad', 'C', 'C.one', 'D.c']);
      expect(api.find(({ name }) => name === 'run')!.text).toMatch(/function run\(\).*\n.*function run\(a: number\)/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
