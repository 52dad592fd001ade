/** Every claim of a RAFS v6 bootstrap that its own bytes can answer. */
import { CHUNK_ENTRY } from '../formats/rafs/chunk-entry.ts';
import { EXTENDED_OFFSET, FLAG, PREFETCH_ENTRY_SIZE, SUPERBLOCK_OFFSET } from '../formats/rafs/layout.ts';
import { EXTENDED_SUPERBLOCK, SUPERBLOCK } from '../formats/rafs/superblock.ts';
import { Areas } from './areas.ts';
import { type CheckedBlob, checkBlobTable } from './blob-table.ts';
import { Bytes } from './bytes.ts';
import { type CheckedChunks, checkChunkTable, type TableEntry } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import { type CheckedSuperblock, checkSuperblock } from './superblock.ts';
import { checkTree, type TreeFacts } from './tree.ts';

/** What a bootstrap says, for those who hold it against blobs and manifest. */
export interface CheckedBootstrap {
  readonly superblock: CheckedSuperblock;
  readonly blobs: readonly CheckedBlob[];
  readonly chunks: CheckedChunks;
  readonly inodes: number;
  readonly names: number;
}

export interface BootstrapOptions {
  /** The id of the blob that the bootstrap was taken out of; inside it, it cannot name it. */
  readonly blobId?: string | null;
}

/** Null when the bytes are no bootstrap at all. Never throws on bad data. */
export function checkBootstrap(
  image: Buffer,
  findings: Findings,
  options: BootstrapOptions = {},
): CheckedBootstrap | null {
  const bytes = new Bytes(image, findings);
  const areas = new Areas();
  const sb = checkSuperblock(bytes, areas);
  if (sb === null) return null;
  const blobs = checkBlobTable(bytes, sb, options.blobId ?? null);
  const chunks = checkChunkTable(bytes, sb, blobs);
  const confirmed = new Set<TableEntry>();
  const tree = checkTree(bytes, { sb, blobs, chunks, confirmed }, areas);
  checkPrefetch(bytes, sb, tree, areas);
  checkTotals(bytes, sb, tree);
  if (tree.isWhole && !sb.isTarfs) checkUse(bytes, chunks, confirmed);
  // The tarfs writer leaves the rest of a long symlink's target behind.
  if (tree.isWhole) areas.check(bytes, sb.isTarfs);
  return { superblock: sb, blobs, chunks, inodes: tree.inodes, names: tree.names };
}

/** u32 nids; readers stop at the first 0, and the root means everything. */
function checkPrefetch(bytes: Bytes, sb: CheckedSuperblock, tree: TreeFacts, areas: Areas): void {
  const { prefetchTableOffset: start, prefetchTableSize: size } = sb;
  // Old writers give an empty table a size without an offset.
  if (start === 0) return;
  const { prefetchTableOffset: field } = EXTENDED_SUPERBLOCK.fields;
  if (!bytes.has(start, size)) {
    bytes.error(field, EXTENDED_OFFSET, `${size} bytes at ${start} run out of ${bytes.length}`);
    return;
  }
  areas.add(start, size, field.name, EXTENDED_OFFSET + field.at);
  for (let entry = start; entry + PREFETCH_ENTRY_SIZE <= start + size; entry += PREFETCH_ENTRY_SIZE) {
    const nid = bytes.u32(entry, 'prefetch');
    if (nid === 0) {
      bytes.zeros(entry, start + size - entry, 'prefetch');
      return;
    }
    if (tree.isWhole && !tree.isInode(nid)) bytes.findings.error('prefetch', entry, `${nid} is no inode of the image`);
  }
}

function checkTotals(bytes: Bytes, sb: CheckedSuperblock, tree: TreeFacts): void {
  if (tree.hasXattrs && (sb.flags & FLAG.HAS_XATTR) === 0) {
    bytes.error(
      EXTENDED_SUPERBLOCK.fields.flags,
      EXTENDED_OFFSET,
      'there are extended attributes, which the flags deny: Nydus does not show them',
    );
  }
  if (tree.isWhole && sb.inos !== tree.names) {
    bytes.error(SUPERBLOCK.fields.inos, SUPERBLOCK_OFFSET, `${sb.inos}, the tree has ${tree.names} names`);
  }
}

/** The table against the files: each entry has one that uses it, at the place it says. */
function checkUse({ findings }: Bytes, chunks: CheckedChunks, confirmed: ReadonlySet<TableEntry>): void {
  const { index, fileOffset } = CHUNK_ENTRY.fields;
  const unused = new Set(chunks.unused());
  for (const entry of chunks.entries) {
    if (!chunks.isFirst(entry)) continue;
    if (unused.has(entry)) findings.warning(index.name, entry.at + index.at, `no file has chunk ${entry.index}`);
    else if (!confirmed.has(entry)) {
      findings.warning(
        fileOffset.name,
        entry.at + fileOffset.at,
        `no file has chunk ${entry.index} at ${entry.fileOffset}`,
      );
    }
  }
}
