/**
 * What a test needs of the machine it runs on. A test never skips silently: what is missing is attached to its file, and
 * `reporter.ts` names every skipped test with it and fails the run under CI=true unless `test/skips.json` has it.
 *
 * ```ts
 * const skip = needs('root', 'erofs');
 * describe.skipIf(skip.reason)('a mounted image', () => { … });
 * ```
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { TestRunner } from 'vitest';
import { demoImageDir, ORACLES, oraclePath } from '#cache';
import { findAddon } from '../../src/native/addon.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** On a file: what its tests need and this machine lacks. */
    lacks?: string[];
  }
}

/** Whether a program of this name can be run, on PATH or where Debian keeps daemons. */
function hasProgram(name: string): boolean {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const program = (name: string) => (): boolean => hasProgram(name);

const filesystem = (name: string) => (): boolean => {
  const listed = (): boolean => new RegExp(`\\t${name}$`, 'm').test(readFileSync('/proc/filesystems', 'utf8'));
  if (listed()) return true;
  spawnSync('modprobe', [name], { stdio: 'ignore' });
  return listed();
};

const loads = (name: string) => (): boolean => {
  try {
    createRequire(import.meta.url)(name);
    return true;
  } catch {
    return false;
  }
};

/** The version of Go's toolchain as [major, minor], or null. */
function goVersion(): readonly [number, number] | null {
  const { stdout } = spawnSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' });
  const match = /^go(\d+)\.(\d+)/.exec(stdout ?? '');
  return match === null ? null : [Number(match[1]), Number(match[2])];
}

/** A probe for each oracle that {@link ORACLES} lists. */
function oracles(): Record<keyof typeof ORACLES, () => boolean> {
  const names = Object.keys(ORACLES) as (keyof typeof ORACLES)[];
  const probes = names.map((name) => [name, () => existsSync(oraclePath(name))] as const);
  return Object.fromEntries(probes) as Record<keyof typeof ORACLES, () => boolean>;
}

const PROBES = {
  linux: () => process.platform === 'linux',
  root: () => process.getuid?.() === 0,
  fuse: () => existsSync('/dev/fuse') && filesystem('fuse')(),
  erofs: filesystem('erofs'),
  overlay: filesystem('overlay'),
  loop: () => existsSync('/dev/loop-control'),
  addon: () => findAddon() !== null,
  /** The holder binary beside the addon. */
  holder: () => existsSync(new URL('../../dist/native/lacuna-holder', import.meta.url)),
  /** The compiled CLI. */
  dist: () => existsSync(new URL('../../dist/cli/main.js', import.meta.url)),
  bash: program('bash'),
  busybox: program('busybox'),
  cargo: program('cargo'),
  containerd: () => hasProgram('containerd') && hasProgram('ctr'),
  debootstrap: program('debootstrap'),
  'docker-registry': program('docker-registry'),
  'fsck.erofs': program('fsck.erofs'),
  groff: program('groff'),
  fish: program('fish'),
  fusermount: program('fusermount'),
  openssl: program('openssl'),
  python3: program('python3'),
  runc: program('runc'),
  script: program('script'),
  skopeo: program('skopeo'),
  strace: program('strace'),
  tar: program('tar'),
  umoci: program('umoci'),
  zsh: program('zsh'),
  'go 1.26': () => {
    const version = goVersion();
    return version !== null && (version[0] > 1 || version[1] >= 26);
  },
  '@napi-rs/blake-hash': loads('@napi-rs/blake-hash'),
  'better-sqlite3': loads('better-sqlite3'),
  'fuse-native': loads('fuse-native'),
  'zstd-napi': loads('zstd-napi'),
  // Made by `npm run oracles`; see `test/oracle/programs`.
  ...oracles(),
  /** The real image, made by `npm run demo` or `scripts/demo-image.sh`. */
  'demo-image': () => existsSync(join(demoImageDir(), 'index.json')),
} satisfies Record<string, () => boolean>;

export type Need = keyof typeof PROBES;

const known = new Map<Need, boolean>();

/** Whether this machine has `need`; probed once per process. */
export function has(need: Need): boolean {
  const before = known.get(need);
  if (before !== undefined) return before;
  const found = PROBES[need]();
  known.set(need, found);
  return found;
}

/** What is missing here of what the tests of this file need: a text for `skipIf`, or null when they can run. */
export function needs(...names: Need[]): { readonly reason: string | null } {
  const missing = names.filter((name) => !has(name));
  if (missing.length === 0) return { reason: null };
  const file = TestRunner.getCurrentSuite().file;
  if (file !== undefined) file.meta.lacks = [...new Set([...(file.meta.lacks ?? []), ...missing])].sort();
  return { reason: `not here: ${missing.join(', ')}` };
}
