/**
 * Makes a fresh clone ready: Debian packages, npm packages, the build. What is there already is left alone, so it is
 * cheap to run before every test. Plain Node, no packages: it runs before there are any.
 *
 * usage: node scripts/setup.mjs [demo | test]      (`demo` and `test` also need programs of Debian; `test` the oracles)
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { checkout } from './cache.mjs';

/** `engines` of package.json. */
const NODE = [20, 19];

/** Program or file → its Debian package. To compile optional npm packages, to run the demo, and more to run the tests. */
const BUILD = { cc: 'gcc', 'c++': 'g++', make: 'make', python3: 'python3' };
const DEMO = {
  ...BUILD,
  containerd: 'containerd',
  runc: 'runc',
  'docker-registry': 'docker-registry',
  debootstrap: 'debootstrap',
  umoci: 'umoci',
  skopeo: 'skopeo',
};
const TEST = {
  ...DEMO,
  'fsck.erofs': 'erofs-utils',
  busybox: 'busybox-static',
  fusermount: 'fuse3',
  'libfuse.so.2': 'libfuse2',
  setfattr: 'attr',
  strace: 'strace',
  // Each tests its own completion script.
  zsh: 'zsh',
  fish: 'fish',
};
const NEEDED = { demo: DEMO, test: TEST };

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}

/** Runs a command of the project with its output on stderr; ends setup when it fails. */
function run(command, args, env = process.env) {
  const result = spawnSync(command, args, { cwd: checkout, stdio: ['ignore', 2, 2], env });
  if (result.error !== undefined) fail(`${command} could not be run: ${result.error.message}`);
  if (result.status !== 0) fail(`\`${command} ${args.join(' ')}\` failed`);
}

function isHere(name) {
  const libraries = ['/lib', '/usr/lib', '/lib64', '/usr/lib64'].flatMap((folder) => [
    folder,
    `${folder}/${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch] ?? process.arch}-linux-gnu`,
  ]);
  const programs = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return (name.includes('.so.') ? libraries : programs).some((folder) => {
    try {
      accessSync(join(folder, name), name.includes('.so.') ? constants.R_OK : constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Installs the Debian packages whose programs are missing; their services are not started. */
function debian(needed) {
  const missing = Object.keys(needed).filter((name) => !isHere(name));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((name) => needed[name]))];
  const wanted = `${missing.join(', ')} (Debian packages: ${packages.join(' ')})`;
  if (!isHere('apt-get')) fail(`missing: ${wanted}; there is no apt-get here, install them by other means`);
  if (process.getuid() !== 0) fail(`missing: ${wanted}; run as root: apt-get install ${packages.join(' ')}`);
  say(`installing ${packages.join(' ')}`);
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => spawnSync('apt-get', ['-q', ...args], { stdio: ['ignore', 2, 2], env }).status === 0;
  const done = apt('update') && apt('install', '-y', '--no-install-recommends', ...packages);
  if (ours) rmSync(policy);
  if (!done) fail(`apt-get could not install ${packages.join(' ')}`);
}

/** Whether node_modules is what package-lock.json says; an optional package may be absent. */
function installed() {
  const lock = join(checkout, 'package-lock.json');
  const hidden = join(checkout, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return false;
  const wanted = JSON.parse(readFileSync(lock, 'utf8')).packages;
  const found = JSON.parse(readFileSync(hidden, 'utf8')).packages;
  return (
    Object.keys(found).every((path) => path in wanted) &&
    Object.entries(wanted).every(
      ([path, entry]) =>
        path === '' ||
        (found[path] === undefined
          ? entry.optional === true || entry.devOptional === true
          : found[path].version === entry.version),
    )
  );
}

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < NODE[0] || (major === NODE[0] && minor < NODE[1])) {
  fail(`Node ${process.versions.node} is too old; Lacuna needs ${NODE.join('.')} or newer`);
}
const purpose = process.argv[2];
if (purpose !== undefined && !(purpose in NEEDED)) fail(`usage: setup.mjs [${Object.keys(NEEDED).join(' | ')}]`);
debian(NEEDED[purpose] ?? BUILD);
if (!installed()) {
  say('npm ci (a minute or two, once)');
  run('npm', ['ci', '--no-audit', '--no-fund']);
}
run('npm', ['run', '--silent', 'build']);
run('npm', ['run', '--silent', 'build:bench']);
// An oracle that cannot be had is named there, and again by every test that is skipped for it.
if (purpose === 'test')
  spawnSync(process.execPath, ['scripts/oracles.mjs'], { cwd: checkout, stdio: ['ignore', 2, 2] });
