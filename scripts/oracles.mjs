/**
 * Builds the test oracles that are programs of other projects, once per state of their sources, into the cache folder.
 * Plain Node, no packages. `npm run oracles`.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheDir, oraclePath, oracleSources } from './cache.mjs';

const ORACLES = ['nydus-mount'];

for (const name of ORACLES) {
  const target = oraclePath(name);
  if (existsSync(target)) continue;
  // One build folder for every state: a change of our few lines does not compile the crates again.
  const build = join(cacheDir(), 'oracles', `${name}.build`);
  process.stderr.write(`oracles: building ${name} (about five minutes, once; cached in ${cacheDir()})\n`);
  const result = spawnSync('cargo', ['build', '--release', '--locked', '--quiet'], {
    cwd: oracleSources(name),
    env: { ...process.env, CARGO_TARGET_DIR: build },
    stdio: ['ignore', 2, 2],
  });
  if (result.error !== undefined) {
    process.stderr.write(`oracles: cargo was not found; install Rust 1.88 or newer (https://rustup.rs)\n`);
    process.exit(1);
  }
  if (result.status !== 0) process.exit(result.status ?? 1);
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(join(build, 'release', name), `${target}.tmp`);
  renameSync(`${target}.tmp`, target);
}
