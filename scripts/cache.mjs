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

/** Sources of a test oracle: a Cargo workspace of its own. */
export function oracleSources(name) {
  return join(checkout, 'test', 'oracles', name);
}

/** The built oracle; another path as soon as one of its sources differs. */
export function oraclePath(name) {
  const top = oracleSources(name);
  const hash = createHash('sha256');
  const files = readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(top, join(entry.parentPath, entry.name)))
    .filter((path) => /^(Cargo\.(toml|lock)|src\/.*\.rs)$/.test(path))
    .sort();
  for (const path of files)
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(top, path)))
      .update('\0');
  return join(cacheDir(), 'oracles', hash.digest('hex').slice(0, 16), name);
}
