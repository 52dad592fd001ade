/** Checks of a RAFS v6 bootstrap that need no other file. */
import { CHUNK_ENTRY } from '../formats/rafs/chunk-entry.ts';
import { EXTENDED_OFFSET, FLAG, PREFETCH_ENTRY_SIZE, SUPERBLOCK_OFFSET } from '../formats/rafs/layout.ts';
import { EXTENDED_SUPERBLOCK, SUPERBLOCK } from '../formats/rafs/superblock.ts';
import { type CheckedBlob, checkBlobTable } from './blob-table.ts';
import { ByteOwnership } from './byte-ownership.ts';
import { Bytes } from './bytes.ts';
import { type CheckedChunks, checkChunkTable, type TableEntry } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import { type CheckedSuperblock, checkSuperblock } from './superblock.ts';
import { checkTree, type TreeFacts } from './tree.ts';

/** Contents of a checked bootstrap, for comparison with blobs and manifest. */
export interface CheckedBootstrap {
  readonly superblock: CheckedSuperblock;
  readonly blobs: readonly CheckedBlob[];
  readonly chunks: CheckedChunks;
  readonly inodes: number;
  readonly names: number;
}

export interface BootstrapOptions {
  /** The id of the blob that contained the bootstrap, which a bootstrap inside its own blob cannot store. */
  readonly blobId?: string | null;
}

/** Checks a bootstrap. Null when the bytes are not a bootstrap. Damaged data never makes it throw. */
export function checkBootstrap(
  image: Buffer,
  findings: Findings,
  options: BootstrapOptions = {},
): CheckedBootstrap | null {
  const bytes = new Bytes(image, findings);
  const ownership = new ByteOwnership();
  const sb = checkSuperblock(bytes, ownership);
  if (sb === null) return null;
  const blobs = checkBlobTable(bytes, sb, options.blobId ?? null);
  const chunks = checkChunkTable(bytes, sb, blobs);
  const confirmed = new Set<TableEntry>();
  const tree = checkTree(bytes, { sb, blobs, chunks, confirmed }, ownership);
  checkPrefetch(bytes, sb, tree, ownership);
  checkTotals(bytes, sb, tree);
  if (tree.isWhole && !sb.isTarfs) checkUse(bytes, chunks, confirmed);
  // Nydus's tarfs writer leaves the rest of a long symlink target in unowned bytes.
  if (tree.isWhole) ownership.check(bytes, sb.isTarfs);
  return { superblock: sb, blobs, chunks, inodes: tree.inodes, names: tree.names };
}

/** Prefetch table: u32 nids. Readers stop at the first 0, and the root stands for the whole tree. */
function checkPrefetch(bytes: Bytes, sb: CheckedSuperblock, tree: TreeFacts, ownership: ByteOwnership): void {
  const { prefetchTableOffset: start, prefetchTableSize: size } = sb;
  // Old writers give an empty table a size without an offset.
  if (start === 0) return;
  const { prefetchTableOffset: field } = EXTENDED_SUPERBLOCK.fields;
  if (!bytes.has(start, size)) {
    bytes.error(field, EXTENDED_OFFSET, `${size} bytes at offset ${start} exceed the file's ${bytes.length} bytes`);
    return;
  }
  ownership.claim(start, size, field.name, EXTENDED_OFFSET + field.at);
  for (let entry = start; entry + PREFETCH_ENTRY_SIZE <= start + size; entry += PREFETCH_ENTRY_SIZE) {
    const nid = bytes.u32(entry, 'prefetch');
    if (nid === 0) {
      bytes.zeros(entry, start + size - entry, 'prefetch');
      return;
    }
    if (tree.isWhole && !tree.isInode(nid)) bytes.findings.error('prefetch', entry, `inode ${nid} is not in the image`);
  }
}

function checkTotals(bytes: Bytes, sb: CheckedSuperblock, tree: TreeFacts): void {
  if (tree.hasXattrs && (sb.flags & FLAG.HAS_XATTR) === 0) {
    bytes.error(
      EXTENDED_SUPERBLOCK.fields.flags,
      EXTENDED_OFFSET,
      'the flag for extended attributes is missing though there are some: Nydus does not show them',
    );
  }
  if (tree.isWhole && sb.inos !== tree.names) {
    bytes.error(SUPERBLOCK.fields.inos, SUPERBLOCK_OFFSET, `${sb.inos}, but the tree has ${tree.names} names`);
  }
}

/** Checks that a file uses each entry of the chunk table, at the file offset that the entry has. */
function checkUse({ findings }: Bytes, chunks: CheckedChunks, confirmed: ReadonlySet<TableEntry>): void {
  const { index, fileOffset } = CHUNK_ENTRY.fields;
  const unused = new Set(chunks.unused());
  for (const entry of chunks.entries) {
    if (!chunks.isFirst(entry)) continue;
    if (unused.has(entry)) findings.warning(index.name, entry.at + index.at, `no file uses chunk ${entry.index}`);
    else if (!confirmed.has(entry)) {
      findings.warning(
        fileOffset.name,
        entry.at + fileOffset.at,
        `no file has chunk ${entry.index} at file offset ${entry.fileOffset}`,
      );
    }
  }
}
