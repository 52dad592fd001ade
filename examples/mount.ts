/**
 * Mounts a lazy image, counts the files of one of its directories as any program would, and unmounts it.
 * usage: mount IMAGE [DIRECTORY]
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanup, mount } from 'lacuna';

const [image, directory = '/'] = process.argv.slice(2);
if (image === undefined) throw new Error('usage: mount IMAGE [DIRECTORY]');

const folder = await mkdtemp(join(tmpdir(), 'lacuna-example-'));
const [target, root] = [await mkdtemp(join(folder, 'mnt-')), join(folder, 'root')];
try {
  // Disposing of the mounted image unmounts it, also when the block ends with an error.
  await using mounted = await mount(image, target, { root });
  const names = await readdir(join(mounted.target, directory));
  console.log(`${directory} has ${names.length} entries: ${names.sort().join(' ')}`);
} finally {
  // The daemon of a root outlives its mounts, so that the next mount finds a warm cache. This root is not used again.
  await cleanup(root, { purge: true });
  await rm(folder, { recursive: true });
}
