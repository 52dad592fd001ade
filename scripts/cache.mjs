/** Where things that take minutes to make and are made once live: outside the checkout, named by what they are made of. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the checkout. */
export const checkout = dirname(dirname(fileURLToPath(import.meta.url)));

/** `LACUNA_CACHE`, or `lacuna` in the user's cache folder. */
export function cacheDir() {
  return process.env.LACUNA_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'lacuna');
}

/** The OCI layout that scripts/demo-image.sh makes; its image is called `demo`. Count up when the script's result changes. */
export function demoImageDir() {
  return join(cacheDir(), 'demo-image-1');
}

/**
 * The test oracles: programs of other projects, or a few lines of ours around their libraries. Program → the folder
 * below test/oracle/programs that says what it is made of: a Cargo workspace, a Go module, or a crate's name and version. The
 * quick ones first.
 */
export const ORACLES = {
  'go-erofs-walk': 'go-erofs',
  'erofs-rs-walk': 'erofs-rs',
  crictl: 'crictl',
  'containerd-nydus-grpc': 'nydus-snapshotter',
  'nydus-mount': 'nydus-mount',
  'nydus-image': 'nydus-rs',
  nydusd: 'nydus-rs',
};

/** Where an oracle's sources lie. */
export function oracleSources(folder) {
  return join(checkout, 'test', 'oracle', 'programs', folder);
}

/** The built oracle; another path as soon as one of its sources differs. */
export function oraclePath(name) {
  const top = oracleSources(ORACLES[name]);
  const hash = createHash('sha256');
  const files = readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(top, join(entry.parentPath, entry.name)))
    .filter((path) => /^(Cargo\.(toml|lock)|src\/.*\.rs|go\.(mod|sum)|.*\.go|crate\.json)$/.test(path))
    .sort();
  for (const path of files)
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(top, path)))
      .update('\0');
  return join(cacheDir(), 'oracles', hash.digest('hex').slice(0, 16), name);
}
