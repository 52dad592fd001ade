/** The commands around images as a user runs them: streams, documents, exit codes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacunaArgs } from '../../kit/lacuna.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { readRows } from '../../kit/tree.ts';

const skip = needs('dist');

const rafs = (variant: string): string => `rafs:${fixture('rafs', variant, 'bootstrap')}`;
const MERGED = readRows(fixture('truth/tame-mini.merged.jsonl'));

async function lacuna(...args: string[]): Promise<{ code: number; stdout: Buffer; stderr: string }> {
  const child = spawn(process.execPath, lacunaArgs(...args), { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.on('data', (piece: Buffer) => err.push(piece));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString() };
}

describe.skipIf(skip.reason)('lacuna', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-commands-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(['toString', 'constructor', '__proto__', 'convrt'])('there is no command %s', async (word) => {
    const { code, stderr } = await lacuna(word);
    expect(code).toBe(2);
    expect(stderr).toContain('unknown command');
  });

  it('find gives programs the bytes of names', async () => {
    const bytes = MERGED.map(({ path, path_b64: base64 }) =>
      path === undefined ? Buffer.from(base64!, 'base64') : Buffer.from(path),
    );
    const end = Buffer.from([0]);
    const { stdout } = await lacuna('find', rafs('merged'), '--print0');
    expect(stdout.equals(Buffer.concat(bytes.flatMap((path) => [path, end])))).toBe(true);
  });

  it('find takes its questions from options', async () => {
    const { stdout } = await lacuna(
      'find',
      rafs('merged'),
      '/sizes',
      '--type',
      'f',
      '--size',
      '-1KiB',
      '--name',
      'f*',
      '--ndjson',
    );
    const wanted = MERGED.filter(
      ({ path, type, size }) => /^\/sizes\/f[^/]*$/.test(path ?? '') && type === 'reg' && size! < 1024,
    );
    const rows = stdout
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { path: string; size: number });
    expect(rows.map(({ path, size }) => [path, size])).toEqual(wanted.map(({ path, size }) => [path, size]));
    const wrong = await lacuna('find', rafs('merged'), '--size', 'large');
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('4096') });
  });

  it('stat prints what stat(1) prints, and a document', async () => {
    const { code, stdout } = await lacuna('stat', rafs('merged'), '/bin/su');
    expect(code).toBe(0);
    expect(stdout.toString()).toMatch(
      /File: \/bin\/su\n +Type: regular file\n.*Mode: 4755\/-rwsr-xr-x\n Owner: 0:0\n/s,
    );
    const { stdout: json } = await lacuna('stat', rafs('merged'), '/bin/su', '--json');
    const document = JSON.parse(json.toString()) as { schema: string; files: Array<{ row: { mode: string } }> };
    expect(document).toMatchObject({ schema: 'lacuna.stat.v1', files: [{ row: { path: '/bin/su', mode: '4755' } }] });
    expect(await lacuna('stat', rafs('merged'), '/nowhere')).toMatchObject({ code: 3 });
  });

  it('diff tells by its exit code', async () => {
    expect(await lacuna('diff', rafs('default'), rafs('sha256'))).toMatchObject({ code: 0, stdout: Buffer.alloc(0) });
    const different = await lacuna('diff', rafs('default'), rafs('merged'), '--ignore', 'mtime');
    expect(different.code).toBe(1);
    expect(different.stdout.toString()).toMatch(/^- \/bin\/cat$/m);
    const summary = await lacuna('diff', rafs('default'), rafs('merged'), '--ignore', 'mtime', '--summary', '--json');
    const document = JSON.parse(summary.stdout.toString());
    const lines = different.stdout.toString().trimEnd().split('\n');
    const count = (mark: string): number => lines.filter((line) => line.startsWith(mark)).length;
    expect(document).toMatchObject({
      equal: false,
      summary: { added: count('+'), removed: count('-'), changed: count('~') },
    });
    expect(await lacuna('diff', rafs('default'), 'rafs:/nowhere')).toMatchObject({ code: 3 });
    expect(await lacuna('diff', rafs('default'), rafs('default'), '--ignore', 'smell')).toMatchObject({ code: 2 });
  });

  it('export reports the file and its sizes', async () => {
    const path = join(dir, 'image.erofs');
    const { code, stdout } = await lacuna('export', rafs('default'), path, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout.toString())).toMatchObject({
      schema: 'lacuna.export.v1',
      path,
      size: statSync(path).size,
    });
    // EROFS_SUPER_MAGIC_V1 of its superblock.
    expect(readFileSync(path).readUInt32LE(1024)).toBe(0xe0f5e1e2);
  });
});
