/** Serialises planned inodes with their attributes, directory entries and symlink targets. */
import { bytesOf } from '../../tree/node.ts';
import { encodeDirectory } from './dirent.ts';
import { encodeDevice, INODE_SIZE, LAYOUT, writeInode } from './inode.ts';
import type { Inodes } from './inodes.ts';
import { BLOCK } from './layout.ts';
import { writeXattrs, xattrCount } from './xattr.ts';

/** Writes an inode. `content`: i_u of a regular file, whose chunk indexes the caller writes. */
export function writePlannedInode(out: Buffer, inodes: Inodes, number: number, metaOffset: number, content = 0): void {
  const node = inodes.nodes[number]!;
  const offset = inodes.offset(number);
  writeInode(out, offset, node, {
    layout: inodes.layouts[number]!,
    xattrCount: xattrCount(inodes.xattrSize(number)),
    size: inodes.size(number),
    union: node.type === 'reg' ? content : unionOf(inodes, number),
    ino: number + 1,
    nlink: inodes.nlinks[number]!,
  });
  const xattrs = inodes.xattrs.get(number);
  if (xattrs !== undefined) writeXattrs(out, offset + INODE_SIZE, xattrs);
  if (node.type === 'dir') writeData(out, inodes, number, directoryBytes(inodes, number, metaOffset));
  else if (node.type === 'symlink') writeData(out, inodes, number, bytesOf(node.target!));
}

function unionOf({ nodes, blockOffsets }: Inodes, number: number): number {
  const { rdev } = nodes[number]!;
  return rdev === null ? (blockOffsets.get(number) ?? 0) / BLOCK : encodeDevice(rdev.major, rdev.minor);
}

function directoryBytes(inodes: Inodes, number: number, metaOffset: number): Buffer {
  const { layout, targets } = inodes.directories.get(number)!;
  return encodeDirectory(layout, (index) => {
    const target = targets[index]!;
    return { nid: inodes.nid(target, metaOffset), type: inodes.nodes[target]!.type };
  });
}

/** Writes data: whole blocks to their offset, and an inline tail after the inode. */
function writeData(out: Buffer, inodes: Inodes, number: number, data: Buffer): void {
  const tail = inodes.layouts[number] === LAYOUT.INLINE ? data.length % BLOCK : 0;
  data.copy(out, inodes.blockOffsets.get(number) ?? 0, 0, data.length - tail);
  data.copy(out, inodes.behindXattrs(number), data.length - tail);
}
