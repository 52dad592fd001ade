/** Where things are in a bootstrap, found without any code of the reader, and bytes put there. */

const SLOT = 32;
const BLOCK = 4096;

export interface Located {
  /** Place of the inode, of its attributes, and of what follows these. */
  readonly inode: number;
  readonly behind: number;
  /** Place of the directory entry that leads to it, and of its name. */
  readonly entry: number;
  readonly name: number;
}

const metaOf = (image: Buffer): number => image.readUInt32LE(1064) * BLOCK;
const offsetOf = (image: Buffer, nid: number): number => metaOf(image) + nid * SLOT;

function behindOf(image: Buffer, inode: number): number {
  const count = image.readUInt16LE(inode + 2);
  return inode + 64 + (count === 0 ? 0 : 12 + (count - 1) * 4);
}

/** Blocks of a directory. */
function* blocksOf(image: Buffer, inode: number): Generator<{ at: number; length: number }> {
  const size = Number(image.readBigUInt64LE(inode + 8));
  const isInline = image.readUInt16LE(inode) >> 1 === 2;
  for (let start = 0; start < size; start += BLOCK) {
    const length = Math.min(BLOCK, size - start);
    const at = isInline && length < BLOCK ? behindOf(image, inode) : image.readUInt32LE(inode + 16) * BLOCK + start;
    yield { at, length };
  }
}

export interface Entry {
  readonly text: string;
  readonly nid: number;
  readonly entry: number;
  readonly name: number;
}

/** The entries of the directory whose inode lies at `inode`, in their order. */
export function entriesOf(image: Buffer, inode: number): Entry[] {
  const entries: Entry[] = [];
  for (const { at, length } of blocksOf(image, inode)) {
    const count = image.readUInt16LE(at + 8) / 12;
    for (let i = 0; i < count; i++) {
      const entry = at + i * 12;
      const name = at + image.readUInt16LE(entry + 8);
      const end = i + 1 < count ? at + image.readUInt16LE(entry + 20) : at + length;
      const text = image.toString('latin1', name, end).replace(/\0.*$/s, '');
      entries.push({ text, nid: Number(image.readBigUInt64LE(entry)), entry, name });
    }
  }
  return entries;
}

export const rootOf = (image: Buffer): number => offsetOf(image, image.readUInt16LE(1038));

/** The first path whose inode fits, its place, breadth first. */
export function findInode(image: Buffer, fits: (inode: number) => boolean): Located & { path: string } {
  const todo = [{ path: '', inode: rootOf(image) }];
  for (const { path, inode } of todo) {
    for (const { text, nid, entry, name } of entriesOf(image, inode)) {
      if (text === '.' || text === '..') continue;
      const child = offsetOf(image, nid);
      const found = { path: `${path}/${text}`, inode: child };
      if (fits(child)) return { ...found, behind: behindOf(image, child), entry, name };
      if (typeOf(image, child) === 0o040000) todo.push(found);
    }
  }
  throw new Error('no such inode');
}

export const typeOf = (image: Buffer, inode: number): number => image.readUInt16LE(inode + 4) & 0o170000;
export const sizeOf = (image: Buffer, inode: number): number => Number(image.readBigUInt64LE(inode + 8));
export const xattrsOf = (image: Buffer, inode: number): number => image.readUInt16LE(inode + 2);

/** Where the chunk index array of a file begins. */
export const indexesOf = ({ behind }: Pick<Located, 'behind'>): number => Math.ceil(behind / 8) * 8;

/** Place of entry `row` of the chunk table. */
export const chunkRow = (image: Buffer, row: number): number => Number(image.readBigUInt64LE(1176)) + row * 80;
/** Place of the entry of blob `index` in the blob table. */
export const blobRow = (image: Buffer, index = 0): number => Number(image.readBigUInt64LE(1160)) + index * 256;
