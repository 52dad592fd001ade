/**
 * Builds the test oracles that are programs of other projects, once per state of their sources, into the cache folder.
 * One that cannot be had is named and leaves the others alone; the exit status says whether all are there.
 * Plain Node, no packages. `npm run oracles`.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheDir, ORACLES, oraclePath, oracleSources } from './cache.mjs';

const RUST = 'cargo was not found; install Rust 1.91 or newer (https://rustup.rs)';
const GO = 'go was not found; install Go 1.26 or newer (https://go.dev/dl)';

function say(text) {
  process.stderr.write(`oracles: ${text}\n`);
}

/** Runs a build with its output on stderr; throws a sentence when it fails. */
function build(program, args, cwd, env, missing) {
  const result = spawnSync(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 2, 2] });
  if (result.error !== undefined) throw new Error(missing);
  if (result.status !== 0) throw new Error(`\`${program} ${args.join(' ')}\` failed`);
}

/** Builds what `folder` describes and returns where its programs lie. `scratch` is kept between states of the sources. */
function make(folder, scratch) {
  const sources = oracleSources(folder);
  const has = (file) => existsSync(join(sources, file));
  if (has('go.mod')) {
    // A module without code of its own names other modules' programs as its tools.
    const what = has('main.go') ? '.' : 'tool';
    build('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', `${scratch}/`, what], sources, {}, GO);
    return scratch;
  }
  const env = { CARGO_TARGET_DIR: scratch };
  if (has('Cargo.toml')) {
    build('cargo', ['build', '--release', '--locked', '--quiet'], sources, env, RUST);
    return join(scratch, 'release');
  }
  const { crate, version } = JSON.parse(readFileSync(join(sources, 'crate.json'), 'utf8'));
  const install = ['install', crate, '--version', version, '--locked', '--quiet', '--force', '--root', scratch];
  build('cargo', install, sources, env, RUST);
  return join(scratch, 'bin');
}

let complete = true;
for (const folder of new Set(Object.values(ORACLES))) {
  const names = Object.keys(ORACLES).filter((name) => ORACLES[name] === folder && !existsSync(oraclePath(name)));
  if (names.length === 0) continue;
  say(`building ${names.join(' and ')} (up to some minutes, once; cached in ${cacheDir()})`);
  const began = Date.now();
  try {
    const scratch = join(cacheDir(), 'oracles', `${folder}.build`);
    mkdirSync(scratch, { recursive: true });
    const made = make(folder, scratch);
    for (const name of names) {
      const target = oraclePath(name);
      mkdirSync(dirname(target), { recursive: true });
      const temporary = `${target}.${process.pid}`;
      copyFileSync(join(made, name), temporary);
      renameSync(temporary, target);
    }
    say(`built ${names.join(' and ')} in ${Math.round((Date.now() - began) / 1000)} s`);
  } catch (error) {
    complete = false;
    say(`no ${names.join(', no ')}: ${error.message}`);
  }
}
process.exit(complete ? 0 : 1);
