/** Images through pipes: an archive on standard input becomes one on standard output, and stdout carries nothing else. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { ls } from '../../src/inspect/ls.ts';
import { fixture } from '../kit/layers.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, type Row, readRows } from '../kit/tree.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const TRUTH = readRows(fixture('truth/tame-mini.merged.jsonl'));
const skip = needs('dist', 'addon', 'skopeo', 'tar');

describe.skipIf(skip.reason)('a pipe', () => {
  const dir = mkdtempSync(join(tmpdir(), 'pipe-'));
  const temporary = join(dir, 'tmp');
  mkdirSync(temporary);
  afterAll(() => rmSync(dir, { recursive: true }));
  const at = (name: string): string => join(dir, name);

  const lacuna = (words: string[], input: Buffer) =>
    spawnSync(process.execPath, [CLI, ...words], {
      input,
      maxBuffer: 1 << 28,
      env: { ...process.env, TMPDIR: temporary },
    });

  async function listed(reference: string): Promise<Row[]> {
    const rows: Row[] = [];
    for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) rows.push(row);
    return rows;
  }

  it('from docker save to a lazy image to an ordinary one to a tar', async () => {
    const source = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
    execFileSync('skopeo', ['copy', '-q', source, `docker-archive:${at('d.tar')}:r.example/x:v1`]);
    const convert = lacuna(
      ['convert', '--json', 'docker-archive:-', 'oci-archive:-'],
      gzipSync(readFileSync(at('d.tar'))),
    );
    expect(convert.status, convert.stderr.toString()).toBe(0);
    expect(JSON.parse(convert.stderr.toString())).toMatchObject({
      schema: 'lacuna.convert.v1',
      target: 'oci-archive:-',
    });
    writeFileSync(at('lazy.tar'), convert.stdout);
    expect(diffTrees(TRUTH, await listed(`oci-archive:${at('lazy.tar')}`))).toEqual([]);

    const platform = ['--platform', 'linux/amd64'];
    const image = lacuna(['unpack', ...platform, 'oci-archive:-', 'docker-archive:-:r.example/x:v2'], convert.stdout);
    expect(image.status, image.stderr.toString()).toBe(0);
    writeFileSync(at('plain.tar'), image.stdout);
    execFileSync('skopeo', ['copy', '-q', `docker-archive:${at('plain.tar')}:r.example/x:v2`, `oci:${at('back')}:v1`]);
    expect(diffTrees(TRUTH, await listed(`oci:${at('back')}:v1`))).toEqual([]);

    const tar = lacuna(['unpack', ...platform, 'oci-archive:-', '-'], convert.stdout);
    expect(tar.status, tar.stderr.toString()).toBe(0);
    const names = execFileSync('tar', ['-t'], {
      input: tar.stdout,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    expect(names).toContain('bin/box\n');
    expect(readdirSync(temporary)).toEqual([]);
  }, 120_000);

  it('that breaks, or is not an archive, leaves nothing behind', () => {
    const garbage = lacuna(['convert', 'docker-archive:-', 'oci-archive:-'], Buffer.from('no tar '.repeat(1000)));
    expect(garbage.stdout.length).toBe(0);
    expect(garbage.stderr.toString()).toMatch(/\[FORMAT\]/);
    expect(garbage.status).toBe(5);
    const source = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
    const script = `${process.execPath} ${CLI} convert ${source} oci-archive:- | head -c 1000 | wc -c`;
    const broken = spawnSync('sh', ['-c', script], { encoding: 'utf8', env: { ...process.env, TMPDIR: temporary } });
    expect(broken.stdout.trim()).toBe('1000');
    expect(readdirSync(temporary)).toEqual([]);
    const refused = lacuna(['convert', source, `docker-archive:${at('x.tar')}`], Buffer.alloc(0));
    expect(refused.status).toBe(7);
    expect(refused.stderr.toString()).toMatch(/hint: .*oci-archive/);
  }, 120_000);
});
