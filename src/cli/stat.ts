/** `lacuna stat IMAGE PATH…`. */
import type { Command } from 'commander';
import { type Stat, stat } from '../inspect/stat.ts';
import { humanBytes } from '../observe/human.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { describeStored, shown, shownTime, TYPE_LETTERS } from './output.ts';

export const command: CommandSpec = {
  name: 'stat',
  group: 'look',
  summary: 'show all metadata of files of an image',
  examples: ['lacuna stat oci:build:app /etc/os-release'],
  configure(command: Command): void {
    withImage(command)
      .argument('<path...>', 'paths in the image')
      .option('-L, --dereference', 'follow a path that is a symlink')
      .option('--chunks', 'list every chunk with where it is stored');
  },
  async run(context, [image, ...paths], options) {
    const dereference = options.dereference === true;
    const files = await stat(image!, paths, { dereference, ...(await openOptions(context, options)) });
    return {
      document: { schema: 'lacuna.stat.v1', files },
      text: files.map((file) => describe(file, options.chunks === true)).join('\n\n'),
    };
  },
};

const TYPE_NAMES: Readonly<Record<Stat['row']['type'], string>> = {
  reg: 'regular file',
  dir: 'directory',
  symlink: 'symbolic link',
  char: 'character device',
  block: 'block device',
  fifo: 'fifo',
  socket: 'socket',
};

/** For people: like stat(1). */
function describe({ row, nid, layer, chunks }: Stat, listChunks: boolean): string {
  const path = shown(row.path, row.path_b64);
  const lines = [
    `  File: ${row.type === 'symlink' ? `${path} -> ${shown(row.target, row.target_b64)}` : path}`,
    `  Type: ${TYPE_NAMES[row.type]}`,
    `  Size: ${row.size ?? 0}`,
    `  Mode: ${row.mode}/${TYPE_LETTERS[row.type]}${permissions(Number.parseInt(row.mode, 8))}`,
    ` Owner: ${row.uid}:${row.gid}`,
    ` Links: ${row.nlink}`,
    `Modify: ${shownTime(row.mtime, true)}`,
  ];
  if (row.rdev !== undefined) lines.push(`Device: ${row.rdev.major}:${row.rdev.minor}`);
  if (nid !== null) lines.push(`   Nid: ${nid}`);
  if (layer !== null) lines.push(` Layer: ${layer.digest}${layer.source === null ? '' : `, made of ${layer.source}`}`);
  for (const [name, hex] of Object.entries(row.xattrs)) lines.push(` Xattr: ${shown(name)}=${value(hex)}`);
  for (const [name, hex] of Object.entries(row.xattrs_b64 ?? {}))
    lines.push(` Xattr: ${shown(undefined, name)}=${value(hex)}`);
  if (!listChunks && chunks.length > 0) lines.push(`Chunks: ${summary(chunks)}`);
  for (const chunk of listChunks ? chunks : [])
    lines.push(` Chunk: ${chunk.fileOffset}+${chunk.size} ${describeStored(chunk)}`);
  return lines.join('\n');
}

/** `53, 6.95 MB plain, 2.31 MB stored, in 2 blobs`: what is fetched whole for several chunks counts once. */
function summary(chunks: Stat['chunks']): string {
  const plain = chunks.reduce((sum, { size }) => sum + size, 0);
  const stored = new Map(chunks.map((chunk) => [`${chunk.blob} ${chunk.compressedOffset}`, chunk.compressedSize]));
  const bytes = [...stored.values()].reduce((sum, size) => sum + size, 0);
  const blobs = new Set(chunks.map(({ blob }) => blob)).size;
  const where = `in ${blobs} ${blobs === 1 ? 'blob' : 'blobs'}`;
  return `${chunks.length}, ${humanBytes(plain)} plain, ${humanBytes(bytes)} stored, ${where} (--chunks lists them)`;
}

/** `rwxr-xr-x`, with set-id bits and the sticky bit as ls(1) shows them. */
function permissions(mode: number): string {
  const bits = [...'rwxrwxrwx'].map((letter, at) => ((mode >> (8 - at)) & 1 ? letter : '-'));
  const special = (bit: number, at: number, letter: string): void => {
    if ((mode & bit) !== 0) bits[at] = bits[at] === 'x' ? letter : letter.toUpperCase();
  };
  special(0o4000, 2, 's');
  special(0o2000, 5, 's');
  special(0o1000, 8, 't');
  return bits.join('');
}

/** Text where it is text, hex elsewhere. */
function value(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  return /^[\x20-\x7e]*$/.test(bytes.toString('latin1')) ? JSON.stringify(bytes.toString('latin1')) : `0x${hex}`;
}
