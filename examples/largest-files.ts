/**
 * Lists the largest files of an image. Of a lazy image in a registry only the file tree is downloaded, not the data.
 * usage: largest-files IMAGE [COUNT]
 */
import { ls, type Row } from 'lacuna/reader';

const [image, count = '10'] = process.argv.slice(2);
if (image === undefined) throw new Error('usage: largest-files IMAGE [COUNT]');

const files: Row[] = [];
const inodes = new Set<number>();
for await (const row of ls(image, { recursive: true })) {
  if (row.type !== 'reg') continue;
  // Names of one inode share its content: the first one counts.
  if (row.link_group !== undefined && inodes.has(row.link_group)) continue;
  if (row.link_group !== undefined) inodes.add(row.link_group);
  files.push(row);
}

files.sort((a, b) => (b.size ?? 0) - (a.size ?? 0));
for (const { size = 0, path, path_b64 } of files.slice(0, Number(count))) {
  console.log(`${String(size).padStart(12)}  ${path ?? `base64:${path_b64}`}`);
}
