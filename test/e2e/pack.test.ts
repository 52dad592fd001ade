/** What `npm publish` would publish works in an empty folder, also without any optional dependency. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('dist', 'addon');

describe.skipIf(skip.reason)('the packed package', { timeout: 300_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-pack-'));
  const empty = join(dir, 'empty');
  let files: string[];

  beforeAll(async () => {
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', dir], { cwd: checkout });
    const [packed] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
    files = packed.files.map((file) => file.path);
    mkdirSync(empty);
    writeFileSync(join(empty, 'package.json'), '{"private":true,"type":"module"}');
    const quiet = ['--omit=optional', '--no-audit', '--no-fund', '--prefer-offline'];
    await run('npm', ['install', ...quiet, join(dir, packed.filename)], { cwd: empty });
  }, 300_000);
  afterAll(() => rmSync(dir, { recursive: true }));

  it('has every file that it needs to run and no development files', () => {
    const programs = ['dist/cli/main.js', 'dist/daemon/main.js', 'dist/native/lacuna.node', 'dist/chunks/LICENSES.txt'];
    for (const path of ['dist/index.js', 'dist/index.d.ts', ...programs, 'LICENSE']) expect(files).toContain(path);
    expect(files.filter((path) => /^(src|test|bench|scripts|native|\.ci)\//.test(path))).toEqual([]);
  });

  it('gives a working doctor', async () => {
    const { stdout } = await run('npx', ['--no-install', 'lacuna', 'doctor', '--json'], { cwd: empty });
    expect(JSON.parse(stdout)).toMatchObject({ schema: 'lacuna.doctor.v1' });
  });

  it('can be imported', async () => {
    const program = "import * as lacuna from 'lacuna'; console.log(JSON.stringify(Object.keys(lacuna)))";
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: empty });
    expect(JSON.parse(stdout)).toEqual(expect.arrayContaining(['convert', 'pull', 'inspect', 'ls', 'doctor']));
  });
});
