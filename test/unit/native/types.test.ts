/** `src/native/addon.ts`, written by hand, against what napi's macros say of the code that they expanded. */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');
const checkout = fileURLToPath(new URL('../../../', import.meta.url));
const LISTED = join(checkout, 'src/native/addon.ts');

interface Described {
  readonly kind: 'interface' | 'struct' | 'impl' | 'fn';
  readonly name: string;
  readonly def: string;
}

const described = (): Described[] =>
  readFileSync(join(checkout, 'dist/native/types.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Described);

/** TypeScript of all that the addon offers, as `interface Addon` and what it mentions. */
function declarations(): string {
  const of = (...kinds: Described['kind'][]) => described().filter(({ kind }) => kinds.includes(kind));
  const types = of('interface', 'impl').map(({ name, def }) => `export interface ${name} {\n${def}\n}`);
  // A class without methods of its own that TypeScript may call is still mentioned.
  const empty = of('struct').map(({ name }) => `export interface ${name} {}`);
  const functions = of('fn').map(({ def }) => def.replace(/^function /, ''));
  return [...types, ...empty, `export interface Addon {\n${functions.join('\n')}\n}`].join('\n');
}

/** What TypeScript says of `code`, with the built types in scope as `Native` and the listed ones as `Listed`. */
async function compile(code: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lacuna-types-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  writeFileSync(join(folder, 'native.d.mts'), declarations());
  const imports = `import type * as Listed from '${LISTED}';\nimport type * as Native from './native.d.mts';\n`;
  writeFileSync(join(folder, 'check.mts'), imports + code);
  const compilerOptions = { typeRoots: [join(checkout, 'node_modules/@types')] };
  const config = { extends: join(checkout, 'tsconfig.json'), include: ['check.mts'], compilerOptions };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const tsc = run(join(checkout, 'node_modules/.bin/tsc'), ['-p', folder]);
  return await tsc.then(
    ({ stdout }) => stdout,
    (error: Error) => error.message,
  );
}

describe.skipIf(skip.reason)('the typed list of the addon', () => {
  it('promises what native code takes and gives', { timeout: 120_000 }, async () => {
    expect(await compile('export const listed = (native: Native.Addon): Listed.Addon => native;')).toBe('');
    // And such a comparison sees what it should.
    const wrong =
      "export const f = (native: Native.Addon): Omit<Listed.Addon, 'flock'> & { flock(fd: string): boolean } => native;";
    expect(await compile(wrong)).toContain("Type 'string' is not assignable to type 'number'");
  });

  it('has the same fields in every object', () => {
    const source = readFileSync(LISTED, 'utf8');
    const fieldsOf = (body: string): string[] =>
      [...body.matchAll(/^ *(?:readonly )?(\w+)\??: /gm)].map(([, name]) => name!);
    for (const { name, def } of described().filter(({ kind }) => kind === 'interface')) {
      const listed = new RegExp(`export interface ${name} \\{\\n(.*?)\\n\\}`, 's').exec(source)![1]!;
      expect([name, fieldsOf(listed).sort()]).toEqual([name, fieldsOf(def).sort()]);
    }
  });
});
