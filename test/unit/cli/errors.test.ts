/** What people see of a mistake of ours: one line, and the stack only when they debug. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacunaArgs } from '../../kit/lacuna.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('dist');

/** Run before the program: opening a file fails in a way that nobody knows. */
const BREAK = `data:text/javascript,${encodeURIComponent(`
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
fs.open = () => { throw new TypeError('odd'); };
syncBuiltinESMExports();
`)}`;

describe.skipIf(skip.reason)('an unknown error', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-errors-'));
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  afterAll(() => rmSync(dir, { recursive: true }));
  const run = (...more: string[]) =>
    spawnSync(process.execPath, ['--import', BREAK, ...lacunaArgs('ls', `oci:${dir}:x`, ...more)], {
      encoding: 'utf8',
    });

  it('is one line', () => {
    const { status, stderr } = run();
    expect(stderr).toBe(`lacuna: open: odd (${dir}/oci-layout) [INTERNAL]\n`);
    expect(status).toBe(1);
  });

  it('has its stack at log level debug', () => {
    expect(run('--log-level', 'debug').stderr).toMatch(/TypeError: odd\n +at /);
  });
});
