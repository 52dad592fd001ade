/** Probes of installed parts: Lacuna's own, optional packages, and programs that it works with. */
import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { addonProblem, findAddon } from '../native/addon.ts';
import { BUILD_HINT } from '../native/build-hint.ts';
import { HOLDER_EXECUTABLE } from '../native/holder.ts';
import { probePidNamespace } from './pid-namespace.ts';
import { type Finding, missing, ok, type ProbeResult, refused, row } from './probe-result.ts';

/** `engines` of package.json. */
const NODE = [20, 19] as const;

/** Longest time of a program that only says its version, in milliseconds. */
const PATIENCE = 5_000;

/** Node and what `npm run build:native` makes. */
export async function probeParts(): Promise<ProbeResult[]> {
  return await Promise.all([row('node', probeNode), row('addon', probeAddon), row('holder', probeHolder)]);
}

function probeNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const enough = major > NODE[0] || (major === NODE[0] && minor >= NODE[1]);
  return enough ? ok(process.version) : refused(process.version, `install Node ${NODE.join('.')} or newer`);
}

function probeAddon(): Finding {
  const found = findAddon();
  if (found !== null) return ok(`version ${found.version()}`);
  const problem = addonProblem()!;
  const cause = problem.cause instanceof Error ? problem.cause : null;
  const why = `${problem.message}: images can be read, but neither converted nor mounted`;
  if (cause !== null && 'code' in cause && cause.code === 'MODULE_NOT_FOUND') return missing(why, problem.hint!);
  return refused(`${why}; ${firstLine(cause?.message ?? '')}`, problem.hint);
}

async function probeHolder(): Promise<Finding> {
  const hint = BUILD_HINT;
  if (!(await isExecutable(HOLDER_EXECUTABLE))) return missing('nothing can be mounted without it', hint);
  // Without an argument it says how it is used: it runs on this machine.
  const { output, problem } = await tell(HOLDER_EXECUTABLE, []);
  return output.startsWith('usage:') ? ok(HOLDER_EXECUTABLE) : refused(firstLine(problem || output), hint);
}

/** Use of an optional package, the loss without it, and a script that fails unless it works. */
const PACKAGES = {
  'better-sqlite3': [
    "keeps the snapshotter's records",
    'without it the snapshotter does not start',
    "new (require('better-sqlite3'))(':memory:').close()",
  ],
  'zstd-napi': [
    'zstd where the addon is absent',
    'without it and the addon, zstd is not read',
    "require('zstd-napi').compress(Buffer.alloc(9))",
  ],
  '@napi-rs/blake-hash': [
    'BLAKE3 where the addon is absent',
    'without it and the addon, BLAKE3 digests are not checked, so nothing is read that needs it',
    "require('@napi-rs/blake-hash').blake3(Buffer.alloc(9))",
  ],
  'fuse-native': [
    'mounts images where the kernel has no EROFS, or without root',
    'without it and EROFS, images cannot be mounted',
    "require('fuse-native')",
  ],
} as const;

/** Optional dependencies, each in a process of its own: a native module can end the process that loads it. */
export async function probeOptional(): Promise<ProbeResult[]> {
  return await Promise.all([
    ...Object.entries(PACKAGES).map(([name, texts]) => row(name, () => probePackage(name, texts))),
    row('libfuse2', probeLibfuse),
    row('fusermount', () => probeProgram('fusermount', ['-V'], 'without it fuse-native cannot unmount', 'fuse3')),
  ]);
}

async function probePackage(name: string, [use, lost, code]: readonly [string, string, string]): Promise<Finding> {
  const hint = `install it with \`npm install ${name}\` (it needs a C compiler where no binary is published)`;
  let path: string;
  try {
    path = createRequire(import.meta.url).resolve(name);
  } catch {
    // Not installed, as is any one's right.
    return missing(lost, hint);
  }
  // Resolved from here, wherever the command runs.
  const script = code.replace(`'${name}'`, JSON.stringify(path));
  const { problem } = await tell(process.execPath, ['-e', script]);
  if (problem === '') return ok(use);
  const thrown = problem.split('\n').find((line) => /^\w*Error\b/.test(line));
  return refused(`${lost}; ${thrown ?? firstLine(problem)}`, libraryHint(problem) ?? hint);
}

const LIBFUSE = 'Debian: apt install libfuse2';

/** Hint for an installed package that lacks a system library, from ld.so's message; null for other messages. */
export function libraryHint(problem: string): string | null {
  const library = /(lib[\w+-]+\.so[\w.]*): cannot open shared object file/.exec(problem)?.[1];
  if (library === undefined) return null;
  return library.startsWith('libfuse.so.2') ? LIBFUSE : `it is installed, and the system lacks ${library}`;
}

async function probeLibfuse(): Promise<Finding> {
  const { output } = await tell((await findProgram('ldconfig')) ?? 'ldconfig', ['-p']);
  const line = output.split('\n').find((text) => text.includes('libfuse.so.2 '));
  if (line !== undefined) return ok(line.slice(line.indexOf('=>') + 2).trim());
  return missing('without it fuse-native does not load', LIBFUSE);
}

/** Programs that use Lacuna, or that it drives. */
export async function probePrograms(): Promise<ProbeResult[]> {
  return await Promise.all([
    row('containerd', () =>
      probeProgram(
        'containerd',
        ['--version'],
        'lazy images cannot run in containers without it; converting, reading and mounting work',
        'containerd',
      ),
    ),
    row('pid namespace', () => probePidNamespace()),
    row('runc', () => probeProgram('runc', ['--version'], 'without it containerd starts no containers', 'runc')),
  ]);
}

async function probeProgram(name: string, args: string[], lost: string, debian: string): Promise<Finding> {
  const path = await findProgram(name);
  if (path === null) return missing(lost, `Debian: apt install ${debian}`);
  const { output, problem } = await tell(path, args);
  return problem === '' ? ok(firstLine(output)) : refused(`${lost}; ${firstLine(problem)}`);
}

const isExecutable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

/** On PATH, or where Debian keeps daemons. */
async function findProgram(name: string): Promise<string | null> {
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), '/usr/sbin', '/sbin'];
  for (const folder of folders) if (await isExecutable(join(folder, name))) return join(folder, name);
  return null;
}

/** The output of a program on both streams, and its problem: error output or why it did not run; '' when none. */
function tell(path: string, args: readonly string[]): Promise<{ output: string; problem: string }> {
  return new Promise((resolve) => {
    execFile(path, args, { timeout: PATIENCE }, (error, stdout, stderr) => {
      resolve({ output: stdout + stderr, problem: error === null ? '' : stderr.trim() || error.message });
    });
  });
}

const firstLine = (text: string): string => text.trim().split('\n', 1)[0]!;
