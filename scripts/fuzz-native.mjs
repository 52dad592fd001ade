/**
 * Coverage-guided fuzzing of the native decoders: `npm run fuzz:native -- [--runs N] [--target NAME] [--keep]`.
 *
 * Needs a nightly Rust and cargo-fuzz (`cargo install cargo-fuzz`). Each target gets `--runs` executions (default
 * 1 000 000); a crash, a hang of more than a second (of `tree`: ten), or more than 256 MiB in one allocation ends it with
 * the input that did it under `native/fuzz/artifacts`: it belongs into `native/fuzz/corpus`, which `cargo test` replays.
 * `--keep` adds to that corpus the smallest inputs that reach what no other one reaches.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** Longest input of each target: as far as its interesting lengths reach. */
const TARGETS = { layer: 16384, chunk: 8192, unit: 16384, tables: 4096, requests: 1024, tree: 1024 };
/** Seconds that are taken for a hang. Trees are thousands of system calls, whose pace is that of a busy host. */
const HANGS = { tree: 10 };

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const fuzz = join(root, 'native', 'fuzz');
const built = join(root, '.cache', 'fuzz');
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000000' },
    target: { type: 'string', multiple: true, default: Object.keys(TARGETS) },
    keep: { type: 'boolean', default: false },
  },
});

function cargoFuzz(command, target, ...rest) {
  const args = ['+nightly', 'fuzz', command, '--fuzz-dir', fuzz, '--features', 'libfuzzer', '--target-dir', built];
  return spawnSync('cargo', [...args, target, ...rest], {
    cwd: join(root, 'native'),
    stdio: 'inherit',
    // Stores of devices and trees lie in memory: a busy disk is no hang of ours.
    env: {
      ...process.env,
      ASAN_OPTIONS: 'quarantine_size_mb=16',
      TMPDIR: existsSync('/dev/shm') ? '/dev/shm' : tmpdir(),
    },
  });
}

let failed = false;
for (const target of values.target) {
  const grown = join(built, 'corpus', target);
  const seeds = join(fuzz, 'corpus', target);
  mkdirSync(grown, { recursive: true });
  const limits = [
    `-timeout=${HANGS[target] ?? 1}`,
    '-malloc_limit_mb=256',
    '-rss_limit_mb=1024',
    `-max_len=${TARGETS[target]}`,
  ];
  const started = Date.now();
  const { status } = cargoFuzz(
    'run',
    target,
    grown,
    seeds,
    '--',
    `-runs=${values.runs}`,
    '-print_final_stats=1',
    ...limits,
  );
  const seconds = Math.round((Date.now() - started) / 1000);
  const inputs = readdirSync(grown).length;
  process.stdout.write(
    `fuzz ${target}: ${values.runs} runs, ${seconds} s, ${inputs} inputs grown, ${status === 0 ? 'no problem' : 'FAILED'}\n`,
  );
  failed ||= status !== 0;
  if (values.keep) cargoFuzz('run', target, seeds, grown, '--', '-merge=1', `-max_len=${TARGETS[target]}`);
}
process.exitCode = failed ? 1 : 0;
