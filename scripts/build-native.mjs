/**
 * Builds the native workspace and puts what the library loads where it looks for it:
 * `dist/native/lacuna.node` (the addon), `dist/native/lacuna-holder` (the holder's executable), and in
 * `dist/native/types.jsonl` the addon's own description of its functions, which a test holds against `src/native/addon.ts`.
 *
 * Honours CARGO and CC (commands) and CARGO_TARGET_DIR. Needs nothing but Node, so that it can run before `npm ci`.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `rust-version` of native/Cargo.toml; napi 3 needs it. */
const RUST = [1, 88];
const HINT =
  'The native addon needs Rust 1.88 or newer (https://rustup.rs) and a C compiler (Debian: apt install build-essential).\n';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const workspace = join(root, 'native');
const cargo = process.env.CARGO ?? 'cargo';

function fail(problem, hint = '') {
  process.stderr.write(`build-native: ${problem}\n${hint}`);
  process.exit(1);
}

/** Standard output of a command, or null when it is not there or fails. */
function ask(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8', cwd: workspace });
  return result.status === 0 ? result.stdout : null;
}

function checkTools() {
  // `cargo --version` reads "cargo 1.95.0 (…)" and carries rustc's own version numbers.
  const found = ask(cargo, ['--version'])?.match(/^cargo (\d+)\.(\d+)/);
  if (found == null) fail(`\`${cargo}\` was not found`, HINT);
  const [major, minor] = [Number(found[1]), Number(found[2])];
  if (major < RUST[0] || (major === RUST[0] && minor < RUST[1])) fail(`Rust ${major}.${minor} is too old`, HINT);
  // zstd's C sources are compiled, and rustc links with the same compiler.
  const compiler = process.env.CC ?? 'cc';
  if (ask(compiler, ['--version']) === null) fail(`the C compiler \`${compiler}\` was not found`, HINT);
}

/** Copies under a temporary name, then renames: a running process keeps the file that it has mapped. */
function install(from, to) {
  if (!existsSync(from)) fail(`cargo did not produce ${from}`);
  const temporary = `${to}.${process.pid}.tmp`;
  try {
    copyFileSync(from, temporary);
    chmodSync(temporary, 0o755);
    renameSync(temporary, to);
  } finally {
    rmSync(temporary, { force: true });
  }
}

checkTools();
const locked = existsSync(join(workspace, 'Cargo.lock')) ? ['--locked'] : [];
// cargo resolves a relative CARGO_TARGET_DIR against its working directory.
const target = resolve(workspace, process.env.CARGO_TARGET_DIR ?? 'target');
const types = join(target, 'napi-types');
mkdirSync(types, { recursive: true });
// napi's macros describe what they expand; cargo does not run them again for a description that is lost.
const lib = join(workspace, 'addon', 'src', 'lib.rs');
if (!existsSync(join(types, 'lacuna-addon'))) utimesSync(lib, new Date(), new Date());
const build = spawnSync(cargo, ['build', '--release', ...locked], {
  cwd: workspace,
  stdio: 'inherit',
  env: { ...process.env, NAPI_TYPE_DEF_TMP_FOLDER: types },
});
if (build.status !== 0) fail(`\`cargo build\` failed (${build.signal ?? build.status})`);

const release = join(target, 'release');
const library = process.platform === 'darwin' ? 'liblacuna_addon.dylib' : 'liblacuna_addon.so';
const out = join(root, 'dist', 'native');
mkdirSync(out, { recursive: true });
install(join(release, library), join(out, 'lacuna.node'));
install(join(release, 'lacuna-holder'), join(out, 'lacuna-holder'));
install(join(types, 'lacuna-addon'), join(out, 'types.jsonl'));
