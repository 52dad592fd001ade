/** `lacuna convert` as a process: documents, progress, exit codes, threads and memory. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { refDigest } from '../kit/converted.ts';
import { fixture } from '../kit/layers.ts';
import { noise } from '../kit/random.ts';
import { needs } from '../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../kit/source-image.ts';
import { END, member } from '../kit/tar.ts';

const skip = needs('addon', 'dist', 'linux');

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MIB = 1024 * 1024;
const SOURCE = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;

/** Loaded before the CLI: prints the process's peak memory, in KiB, at the end of its standard error. */
const WITH_PEAK = `
import { readFileSync } from 'node:fs';
process.on('exit', () => {
  const peak = /VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1];
  process.stderr.write('VmHWM ' + peak + '\\n');
});
`;

function lacuna(args: readonly string[], env: NodeJS.ProcessEnv = {}, nodeArgs: readonly string[] = []) {
  return spawnSync(process.execPath, [...nodeArgs, MAIN, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 64 * MIB,
  });
}

describe.skipIf(skip.reason)('lacuna convert', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-cli-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const target = (name: string): string => `oci:${join(dir, name)}:lazy`;

  it('prints lines for people, and the digest last', () => {
    const { status, stdout, stderr } = lacuna(['convert', SOURCE, target('text')]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const size = '[0-9.]+ k?B';
    const layer = `  layer      [0-9a-f]{12} +${size}  -> +${size}  uploaded +[0-9.]+ s\n`;
    const bootstrap = `  bootstrap  [0-9a-f]{12} +${size}\n`;
    const all = `${size} uploaded in [0-9.]+ s\n`;
    expect(stdout).toMatch(
      new RegExp(
        `^linux/amd64: 3 layers, ${size} -> ${size}\n(${layer}){3}${bootstrap}${all}oci:.*text:lazy@sha256:[0-9a-f]{64}\n$`,
      ),
    );
    expect(stdout.trimEnd()).toMatch(new RegExp(`${refDigest(join(dir, 'text'), 'lazy')}$`));
  });

  it('prints one document with --json', () => {
    const { status, stdout, stderr } = lacuna(['convert', '--json', SOURCE, target('json')]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const layer = {
      source: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      sourceSize: expect.any(Number),
      blob: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      blobSize: expect.any(Number),
      meta: null,
      metaSize: 0,
      chunks: expect.any(Number),
      bytes: expect.any(Number),
      reusedBytes: expect.any(Number),
      transfer: { uploaded: expect.any(Number), there: 0, reused: 0, mounted: 0, copied: 0 },
      isReused: false,
      duration: expect.any(Number),
    };
    expect(JSON.parse(stdout)).toEqual({
      schema: 'lacuna.convert.v1',
      as: 'lazy',
      source: SOURCE,
      target: target('json'),
      digest: refDigest(join(dir, 'json'), 'lazy'),
      name: null,
      transfer: layer.transfer,
      duration: expect.any(Number),
      images: [
        {
          platform: 'linux/amd64',
          source: 'sha256:65ad5899afb9a2dc05489dade6de3468858254804c0ce1dd1583d1009f7ba004',
          digest: refDigest(join(dir, 'json'), 'lazy'),
          layers: [layer, layer, layer],
          bootstrap: { digest: expect.any(String), size: expect.any(Number), plainSize: expect.any(Number) },
          blobs: expect.any(Array),
          dictionary: [],
          transfer: layer.transfer,
          isReused: false,
          duration: expect.any(Number),
        },
      ],
    });
  });

  it('tells its progress in lines of JSON on stderr', () => {
    const { status, stdout, stderr } = lacuna(['convert', '--progress=json', SOURCE, target('progress')]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/@sha256:[0-9a-f]{64}\n$/);
    const events = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const works = new Set(events.map(({ phase, subject }) => `${phase} ${subject}`));
    const count = (phase: string) => [...works].filter((work) => work.startsWith(phase)).length;
    // Three layers are read and pushed, then the bootstrap.
    expect([count('convert '), count('push '), works.size]).toEqual([3, 4, 7]);
    for (const work of works) {
      const [phase, subject] = work.split(' ');
      const mine = events.filter((event) => event.phase === phase && event.subject === subject);
      expect(mine.at(-1)).toEqual({
        schema: 'lacuna.progress.v1',
        time: expect.any(String),
        phase,
        subject,
        done: mine.at(-1).total,
        total: phase === 'convert' ? mine[0].total : expect.any(Number),
        unit: 'bytes',
      });
      expect(mine.map(({ done }) => done)).toEqual(mine.map(({ done }) => done).toSorted((a, b) => a - b));
    }
  });

  it('makes the same bytes with one thread and with four', () => {
    const tar = Buffer.concat([
      ...Array.from({ length: 300 }, (_, i) => member({ name: `f${i}`, data: noise(i * 331, i).repeat(1 + (i % 3)) })),
      END,
    ]);
    const lower = Buffer.concat([member({ name: 'lower', data: noise(5 * MIB, 7) }), END]);
    const source = sourceLayout(join(dir, 'threads'), { layers: [{ tar: lower, how: 'none' }, { tar }] });
    const digests = ['1', '4'].map((threads) => {
      const env = { RAYON_NUM_THREADS: threads, UV_THREADPOOL_SIZE: threads };
      const { status, stdout, stderr } = lacuna(['convert', '--json', source, target(`threads-${threads}`)], env);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      return JSON.parse(stdout).digest;
    });
    expect(digests[0]).toBe(digests[1]);
  });

  it.each([
    [['--chunk-size', '5000'], 'is not a power of two'],
    [['--chunk-size', 'many'], 'give a size with its unit'],
    [['--level', '99'], 'zstd level 99 is not from 1 to 19'],
    [['--level', 'x'], 'level'],
    [['--dedup', 'all'], 'Allowed choices are merge, image'],
    [['--platform', 'linux'], 'not a platform'],
    [['--transport', 'carrier-pigeon'], 'Allowed choices are'],
    [['--chunksize', '1MiB'], 'Did you mean --chunk-size'],
    [['one-argument-too-many'], 'too many arguments'],
  ])('%j is a wrong use: exit code 2', (options, text) => {
    const { status, stdout, stderr } = lacuna(['convert', ...options, SOURCE, target('wrong')]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(text);
  });

  it.each([
    ['--json first', ['--json', 'oci:/nowhere:x', 'oci:/tmp/y:z'], 3, 'NOT_FOUND'],
    ['a wrong reference', ['zip:/x', 'oci:/tmp/y:z', '--json'], 2, 'REFERENCE'],
    ['a missing platform', ['--platform', 'linux/s390x', SOURCE, 'oci:/tmp/y:z', '--json'], 3, 'NOT_FOUND'],
  ])('prints an error as a document with --json: %s', (_, args, exit, code) => {
    const { status, stdout, stderr } = lacuna(['convert', ...args]);
    expect(status).toBe(exit);
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ schema: 'lacuna.error.v1', error: { code, message: expect.any(String) } });
    expect(stderr).toContain(`[${code}]`);
  });

  describe('memory', () => {
    const text = 'The same line again and again, and a number: ';
    const lines = (size: number, seed: number): string => {
      const random = noise(size / 4, seed);
      return (text.repeat(size / 4 / text.length + 1).slice(0, size / 4) + random).repeat(2);
    };
    const big = (seed: number): SourceLayer => ({
      tar: Buffer.concat([
        ...[0, 1, 2, 3].map((i) => member({ name: `f${seed}-${i}`, data: lines(40 * MIB, seed + i) })),
        END,
      ]),
    });

    it.each([
      [250, 'one layer of 160 MiB', [big(10)]],
      [300, 'three of them at once', [big(10), big(20), big(30)]],
    ])('stays below %d MB for %s', { timeout: 180_000 }, (megabytes, what, layers) => {
      const source = sourceLayout(join(dir, what.slice(0, 5)), { layers });
      const hook = `data:text/javascript,${encodeURIComponent(WITH_PEAK)}`;
      const { status, stderr } = lacuna(['convert', source, target(`memory-${layers.length}`)], {}, ['--import', hook]);
      expect(status).toBe(0);
      const peak = Number(/VmHWM (\d+)/.exec(stderr)![1]) * 1024;
      expect(peak).toBeLessThan(megabytes * 1e6);
      expect(peak).toBeGreaterThan(40e6);
    });
  });
});
