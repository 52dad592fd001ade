/** Serialises planned inodes with all that belongs to them but a regular file's content: attributes, directories, targets. */
import { bytesOf } from '../../tree/node.ts';
import { encodeDirectory } from './dirent.ts';
import { encodeDevice, INODE_SIZE, LAYOUT, writeInode } from './inode.ts';
import { BLOCK, SLOT } from './layout.ts';
import { dataSize, type PlannedInode } from './plan.ts';
import { writeXattrs, xattrCount } from './xattr.ts';

/** The number of an inode in a metadata area that begins at `metaOffset`. */
export const nidOf = (inode: PlannedInode, metaOffset: number): number => (inode.offset - metaOffset) / SLOT;

/** First offset behind an inode and its attributes. */
export const behindXattrs = (inode: PlannedInode): number => inode.offset + INODE_SIZE + inode.xattrSize;

/** Writes an inode. `content`: what i_u says of a regular file's content, whose indexes are the caller's. */
export function writePlannedInode(out: Buffer, inode: PlannedInode, metaOffset: number, content = 0): void {
  const { node, offset, xattrSize } = inode;
  writeInode(out, offset, node, {
    layout: inode.layout,
    xattrCount: xattrCount(xattrSize),
    size: node.type === 'reg' ? node.size : dataSize(inode),
    union: node.type === 'reg' ? content : unionOf(inode),
    ino: inode.ino,
    nlink: inode.nlink,
  });
  if (inode.xattrs !== null && xattrSize > 0) writeXattrs(out, offset + INODE_SIZE, inode.xattrs);
  if (node.type === 'dir') writeData(out, inode, directoryBytes(inode, metaOffset));
  else if (node.type === 'symlink') writeData(out, inode, bytesOf(node.target!));
}

const unionOf = ({ node, blocksOffset }: PlannedInode): number =>
  node.rdev === null ? blocksOffset / BLOCK : encodeDevice(node.rdev.major, node.rdev.minor);

function directoryBytes(inode: PlannedInode, metaOffset: number): Buffer {
  return encodeDirectory(inode.directory!, (index) => {
    const target = inode.targets![index]!;
    return { nid: nidOf(target, metaOffset), type: target.node.type };
  });
}

/** Whole blocks to their place, the tail behind the inode if it is inline. */
function writeData(out: Buffer, inode: PlannedInode, data: Buffer): void {
  const tail = inode.layout === LAYOUT.INLINE ? data.length % BLOCK : 0;
  data.copy(out, inode.blocksOffset, 0, data.length - tail);
  data.copy(out, behindXattrs(inode), data.length - tail);
}
