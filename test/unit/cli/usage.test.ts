/** What the command line says of a wrong use: one line, a hint, and a document where one was asked for. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacunaArgs } from '../../kit/lacuna.ts';
import { start, waitUntil } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const built = needs('dist');

const lacuna = (...args: string[]) => spawnSync(process.execPath, lacunaArgs(...args), { encoding: 'utf8' });

describe.skipIf(built.reason)('a wrong use', () => {
  it.each([
    [['covnert', 'a', 'b'], "lacuna: unknown command 'covnert' [USAGE]\nhint: Did you mean convert?\n"],
    [['status'], "lacuna: unknown command 'status' [USAGE]\nhint: see lacuna --help\n"],
    [['help', 'convrt'], "lacuna: unknown command 'convrt' [USAGE]\nhint: Did you mean convert?\n"],
    [['convrt', '--help'], "lacuna: unknown command 'convrt' [USAGE]\nhint: Did you mean convert?\n"],
    [['ls'], "lacuna: ls: missing required argument 'image' [USAGE]\nhint: see lacuna ls --help\n"],
    [['find', 'x', '-name', 'y'], "lacuna: find: unknown option '-name' [USAGE]\nhint: Did you mean --name?\n"],
    [['find', 'x', '-type', 'f'], "lacuna: find: unknown option '-type' [USAGE]\nhint: Did you mean --type?\n"],
    [
      ['find', 'x', '-maxdepth', '1'],
      "lacuna: find: unknown option '-maxdepth' [USAGE]\nhint: Did you mean --max-depth?\n",
    ],
    [['ls', '-recursive', 'x'], "lacuna: ls: unknown option '-ecursive' [USAGE]\nhint: Did you mean --recursive?\n"],
    [
      ['ls', 'x', '--platfrom=y'],
      "lacuna: ls: unknown option '--platfrom=y' [USAGE]\nhint: Did you mean --platform?\n",
    ],
    [['--progres', 'bar', 'ls', 'x'], "lacuna: unknown option '--progres' [USAGE]\nhint: Did you mean --progress?\n"],
  ])('%j: an error line and a hint', (args, message) => {
    const { status, stdout, stderr } = lacuna(...args);
    expect({ status, stdout, stderr }).toEqual({ status: 2, stdout: '', stderr: message });
  });

  it('without a command shows the help, and an error', () => {
    const { status, stdout, stderr } = lacuna();
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain('Build lazy images:');
    expect(stderr).toMatch(/\nlacuna: no command is given \[USAGE\]\n/);
  });

  it.each([
    [['convert', 'a', 'b', '--json', '--compressor', 'gzip'], 'convert', /Allowed choices are none, lz4, zstd$/],
    [['--json', 'ls'], 'ls', /^missing required argument 'image'$/],
    [['nope', '--json'], null, /^unknown command 'nope'$/],
    [['--json'], null, /^no command is given$/],
  ])('%j: a document on standard output', (args, op, message) => {
    const { status, stdout } = lacuna(...args);
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toEqual({
      schema: 'lacuna.error.v1',
      error: { code: 'USAGE', message: expect.stringMatching(message), op, subject: null, hint: expect.any(String) },
    });
  });
});

describe.skipIf(built.reason)('what cannot be meant', () => {
  it.each([
    ['inspect', 'oci-archive.tar'],
    ['check', './nothing'],
    ['diff', 'oci:a:b', './nothing'],
    ['convert', 'oci:a:b', 'new.tar'],
    ['convert', 'oci:a:b', 'oci:c:d', '--dict', 'chunks.db'],
    ['pull', './nothing'],
    ['mount', './nothing', '/mnt'],
    ['dict', 'add', 'chunks.db', './nothing'],
    ['inspect', 'sqlite:chunks.db'],
  ])('%s %s %s: is refused before anything is opened', (...args) => {
    const { status, stderr } = lacuna(...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /^lacuna: parse reference: "[^"]+" (?:looks like a path|is a dictionary).*\[REFERENCE\]\nhint: .+\n$/,
    );
  });

  it('never shows a password', () => {
    const { status, stdout, stderr } = lacuna('inspect', '--json', 'docker://ci:s3cret@127.0.0.1:1/team/app');
    expect(status).toBe(2);
    expect(stdout + stderr).not.toContain('s3cret');
    expect(stderr).toContain('***@127.0.0.1:1/team/app');
  });
});

describe.skipIf(built.reason)('common options', () => {
  it('may stand before the command, and those behind it win', () => {
    expect(JSON.parse(lacuna('--json', 'version').stdout)).toMatchObject({ schema: 'lacuna.version.v1' });
    const wrong = lacuna('--log-level', 'error', '--log-format=json', 'version', '--log-level', 'loud');
    expect(wrong.stderr).toContain("argument 'loud' is invalid");
    expect(lacuna('--log-level', 'loud', 'version').stderr).toContain("argument 'loud' is invalid");
  });

  it('of a log are taken from the environment as well', () => {
    const env = { ...process.env, LACUNA_LOG_LEVEL: 'loud' };
    const { status, stderr } = spawnSync(process.execPath, lacunaArgs('version'), { encoding: 'utf8', env });
    expect(status).toBe(2);
    expect(stderr).toContain('LACUNA_LOG_LEVEL');
  });
});

describe.skipIf(built.reason)('help', () => {
  it.each([
    ['help', 'ls'],
    ['ls', '--help'],
    ['--json', 'ls', '-h'],
    ['--log-level', 'debug', 'help', 'ls'],
  ])('%s %s %s: goes to standard output', (...args) => {
    const { status, stdout, stderr } = lacuna(...args.filter((word) => word !== undefined));
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('Usage: lacuna ls');
  });

  it.each([60, 100])('fits into %i columns', (columns) => {
    const env = { ...process.env, COLUMNS: String(columns) };
    const { stdout } = spawnSync(process.execPath, lacunaArgs('convert', '--help'), { encoding: 'utf8', env });
    const described = stdout.slice(0, stdout.indexOf('\nExamples:')).split('\n');
    expect(Math.max(...described.map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(Math.max(...described.map((line) => line.length))).toBeGreaterThan(columns - 15);
  });

  it('has the options of a command first, those of registries and all commands last', () => {
    const { stdout } = lacuna('ls', '--help');
    const headings = [...stdout.matchAll(/^[A-Z].*:$/gm)].map(([line]) => line);
    expect(headings).toEqual(['Arguments:', 'Options:', 'Registry options:', 'Common options:', 'Examples:']);
  });

  it.each(['-v', '-V', '--version'])('%s prints the version alone', (flag) => {
    expect(lacuna(flag)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
  });
});

describe.skipIf(built.reason)('colour', () => {
  const wrong = (env: NodeJS.ProcessEnv) =>
    spawnSync(process.execPath, lacunaArgs('nope'), { encoding: 'utf8', env: { ...process.env, ...env } }).stderr;

  it('is for terminals, unless it is asked for', () => {
    expect(wrong({ FORCE_COLOR: undefined, NO_COLOR: undefined })).toMatch(/^lacuna: /);
    expect(wrong({ FORCE_COLOR: '1', NO_COLOR: undefined })).toContain('\u001b[31mlacuna:\u001b[39m ');
    expect(wrong({ FORCE_COLOR: '0', NO_COLOR: undefined })).toMatch(/^lacuna: /);
  });
});

const whole = needs('dist', 'addon', 'better-sqlite3', 'root', 'fuse');

describe.skipIf(whole.reason)('the level of the log', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-level-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  /** What snapshotter and daemon log of a start with `level` in the configuration file. */
  async function logged(level: string, ...options: string[]): Promise<{ snapshotter: string; daemon: string }> {
    const place = mkdtempSync(join(dir, 'x'));
    const [root, config, address] = ['root', 'lacuna.toml', 's.sock'].map((name) => join(place, name));
    writeFileSync(config!, `version = 1\n[log]\nlevel = "${level}"\n`);
    const words = ['--root', root!, '--address', address!, '--config', config!, ...options];
    const program = start(process.execPath, lacunaArgs('snapshotter', ...words));
    try {
      await waitUntil(program, 'lacuna snapshotter', () => existsSync(join(root!, 'daemon.sock')));
    } finally {
      await program.stop();
      lacuna('cleanup', '--root', root!);
    }
    return { snapshotter: program.output(), daemon: readFileSync(join(root!, 'daemon.log'), 'utf8') };
  }

  it('is that of the configuration, in every process', { timeout: 60_000 }, async () => {
    expect(await logged('silent')).toEqual({ snapshotter: '', daemon: '' });
    const debug = await logged('debug');
    expect(debug.snapshotter).toMatch(/^\S+Z (?:INFO|DEBUG) {1,2}.*snapshotter ready/m);
    expect(debug.daemon).toMatch(/^\S+Z (?:INFO|DEBUG) {1,2}daemon: /m);
  });

  it('on the command line wins, and so does the format', { timeout: 60_000 }, async () => {
    expect(await logged('debug', '--log-level', 'silent')).toEqual({ snapshotter: '', daemon: '' });
    const { snapshotter, daemon } = await logged('silent', '--log-level', 'info', '--log-format', 'json');
    for (const text of [snapshotter, daemon]) expect(JSON.parse(text.split('\n')[0]!)).toMatchObject({ level: 'info' });
  });
});
