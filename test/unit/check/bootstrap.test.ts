/** Deliberate damage to a bootstrap, one kind of field each: it is found, and the report names field and offset. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkBootstrap } from '../../../src/check/bootstrap.ts';
import { Findings, MAX_PER_FIELD, type Problem } from '../../../src/check/findings.ts';
import { fixture } from '../../kit/layers.ts';
import {
  blobRow,
  chunkRow,
  entriesOf,
  findInode,
  indexesOf,
  type Located,
  rootOf,
  sizeOf,
  typeOf,
  xattrsOf,
} from './damage.ts';

const read = (variant: string): Buffer => readFileSync(fixture('rafs', variant, 'bootstrap'));

function problemsOf(image: Buffer): Problem[] {
  const findings = new Findings('bootstrap');
  checkBootstrap(image, findings);
  return findings.sorted();
}

/** Changes the image; returns where the report has to point. */
type Damage = (image: Buffer) => number;
type Place = (image: Buffer) => number;
type Put = (image: Buffer, at: number, value: number) => unknown;

const u8: Put = (image, at, value) => image.writeUInt8(value, at);
const u16: Put = (image, at, value) => image.writeUInt16LE(value, at);
const u32: Put = (image, at, value) => image.writeUInt32LE(value, at);
const u64: Put = (image, at, value) => image.writeBigUInt64LE(BigInt(value), at);
/** Added to the number that is there. */
const plus32: Put = (image, at, value) => image.writeUInt32LE((image.readUInt32LE(at) + value) >>> 0, at);
const plus64: Put = (image, at, value) => image.writeBigUInt64LE(image.readBigUInt64LE(at) + BigInt(value), at);

/** `value` at `offset` of what lies at `place`; the report points there, or where `told` bytes of the same thing are. */
const at =
  (place: Place) =>
  (offset: number, put: Put, value: number, told = offset): Damage =>
  (image) => {
    const start = place(image);
    put(image, start + offset, value);
    return start + told;
  };

const REG = 0o100000;
const DIR = 0o040000;
const LINK = 0o120000;

const isA = (image: Buffer, type: number, more: (inode: number) => boolean = () => true): Located =>
  findInode(image, (inode) => typeOf(image, inode) === type && more(inode));
const file = (image: Buffer) => isA(image, REG, (inode) => sizeOf(image, inode) > 0);
/** Of several chunks. */
const large = (image: Buffer) => isA(image, REG, (inode) => sizeOf(image, inode) > 70_000);
const link = (image: Buffer) => isA(image, LINK, (inode) => image.readUInt16LE(inode) >> 1 === 2);
const directory = (image: Buffer) => isA(image, DIR);
const largeDirectory = (image: Buffer) => isA(image, DIR, (inode) => sizeOf(image, inode) > 4096);
const attributed = (image: Buffer) => findInode(image, (inode) => xattrsOf(image, inode) > 0);

const start = at(() => 0);
const inBlob = at((image) => blobRow(image));
const inChunk = at((image) => chunkRow(image, 3));
const inFile = at((image) => file(image).inode);
const inLink = at((image) => link(image).inode);
const inEntry = at((image) => file(image).entry);
const inIndexes = at((image) => indexesOf(file(image)));
const inXattrs = at((image) => attributed(image).inode + 64);

/** What is damaged, the field that the report names, and how. */
const DAMAGES: ReadonlyArray<readonly [what: string, field: string, damage: Damage, variant?: string]> = [
  ['boot area', 'boot area', start(17, u8, 1)],
  ['magic', 'magic', start(1024, u32, 0xe0f5e1e3)],
  ['checksum', 'checksum', start(1028, u32, 1)],
  ['feature_compat', 'feature_compat', start(1032, u32, 1)],
  ['blkszbits', 'blkszbits', start(1036, u8, 9)],
  ['sb_extslots', 'sb_extslots', start(1037, u8, 1)],
  ['root_nid of a file', 'root_nid', (image) => start(1038, u16, nidOf(image, file(image)))(image)],
  ['inos', 'inos', start(1040, u64, 571)],
  ['build_time_nsec', 'build_time_nsec', start(1056, u32, 1e9)],
  ['blocks', 'blocks', start(1060, u32, 841)],
  ['meta_blkaddr beyond the end', 'meta_blkaddr', start(1064, u32, 1000)],
  ['xattr_blkaddr', 'xattr_blkaddr', start(1068, u32, 5)],
  ['feature_incompat', 'feature_incompat', start(1104, u32, 0xd)],
  ['available_compr_algs', 'available_compr_algs', start(1108, u16, 1)],
  ['extra_devices', 's_blob_table_size', start(1110, u16, 2, 1168)],
  ['devt_slotoff', 'devt_slotoff', start(1112, u16, 12)],
  ['reserved of the superblock', 'reserved of the superblock', start(1120, u8, 1)],
  ['s_flags: unknown bit', 's_flags', start(1152, u32, 0x10008b4)],
  ['s_flags: two hashes', 's_flags', start(1152, u32, 0x10000bc)],
  ['s_flags: no extended attributes', 's_flags', start(1152, u32, 0x1000094)],
  ['s_flags: encrypted', 's_flags', start(1152, u32, 0x20000b4)],
  ['s_blob_table_offset beyond the end', 's_blob_table_offset', start(1160, u64, 2 ** 40)],
  ['s_blob_table_offset unaligned', 's_blob_table_offset', start(1160, u64, 4097)],
  ['s_blob_table_size', 's_blob_table_size', start(1168, u32, 512)],
  ['s_chunk_size', 's_chunk_size', start(1172, u32, 1048577)],
  ['s_chunk_table_offset', 's_chunk_table_offset', start(1176, u64, 2 ** 48)],
  ['s_chunk_table_size', 's_chunk_table_size', start(1184, u64, 13921)],
  ['s_prefetch_table_offset', 's_prefetch_table_offset', start(1192, u64, 2 ** 33), 'prefetch'],
  ['s_prefetch_table_size', 's_prefetch_table_size', start(1200, u32, 15), 'prefetch'],
  ['reserved of the extended superblock', 'reserved of the extended superblock', start(1300, u8, 7)],
  ['prefetch table: no inode', 'prefetch', start(4352, u32, 129), 'prefetch'],
  ['device slot: tag', 'device tag', start(1408 + 3, u8, 0x66, 1408)],
  ['device slot: blocks', 'device blocks', start(1408 + 64, u32, 839)],
  ['device slot: mapped_blkaddr', 'mapped_blkaddr', start(1408 + 68, u32, 3)],
  ['device slots that overlap', 'mapped_blkaddr', start(1408 + 128 + 68, u32, 129), 'merged'],
  ['device slot: reserved', 'reserved of a device slot', start(1408 + 80, u8, 1)],
  ['blob_id', 'blob_id', inBlob(5, u8, 0x58, 0)],
  ['blob_index', 'blob_index', inBlob(64, u32, 7)],
  ['blob chunk_size', 'chunk_size', inBlob(68, u32, 4096)],
  ['chunk_count', 'ci_uncompressed_size', inBlob(72, plus32, 1, 128)],
  ['compression_algo', 'compression_algo', inBlob(76, u32, 9)],
  ['digest_algo', 'digest_algo', inBlob(80, u32, 1)],
  ['features: zran and not separate', 'features', inBlob(84, u32, 0x4000000d)],
  ['features: not aligned', 'features', inBlob(84, u32, 0x40000000)],
  ['compressed_size', 'compressed_size', inBlob(88, u64, 2 ** 50)],
  ['uncompressed_size', 'uncompressed_size', inBlob(96, plus64, 1)],
  ['blob_toc_size', 'blob_toc_size', inBlob(104, u32, 100)],
  ['ci_compressor', 'ci_compressor', inBlob(108, u32, 4)],
  ['ci_offset', 'ci_offset', inBlob(112, plus64, 1000)],
  ['ci_compressed_size', 'ci_compressed_size', inBlob(120, u64, 5000)],
  ['ci_uncompressed_size', 'ci_uncompressed_size', inBlob(128, plus64, -1)],
  ['blob_meta_digest', 'blob_meta_digest', inBlob(168, u8, 1)],
  ['blob_meta_size', 'blob_meta_size', inBlob(200, u64, 9)],
  ['cipher_algo', 'cipher_algo', inBlob(216, u32, 1)],
  ['blob entry: reserved', 'reserved of a blob entry', inBlob(230, u8, 1)],
  ['two blobs of one id', 'blob_id', sameBlob, 'merged'],
  ['chunk block_id: order', 'block_id', at((image) => chunkRow(image, 0))(0, u8, 0xff, 80)],
  ['chunk blob_index', 'blob_index', inChunk(32, u32, 1)],
  ['chunk flags: unknown', 'flags', inChunk(36, u32, 0x31)],
  ['chunk flags: a hole', 'flags', inChunk(36, u32, 0x13)],
  ['chunk flags: encrypted', 'flags', inChunk(36, u32, 0x15)],
  ['chunk flags: a checksum denied', 'crc32', inChunk(36, u32, 1, 76)],
  ['chunk compressed_size', 'compressed_size', inChunk(40, u32, 0)],
  ['chunk uncompressed_size', 'uncompressed_size', inChunk(44, u32, 0)],
  ['chunk compressed_offset', 'compressed_offset', inChunk(48, u64, 91132)],
  ['chunk uncompressed_offset unaligned', 'uncompressed_offset', inChunk(56, plus64, 1)],
  ['two chunks in one place', 'uncompressed_offset', sameOffset],
  ['chunk file_offset unaligned', 'file_offset', inChunk(64, u64, 5)],
  ['chunk file_offset of no file', 'file_offset', inChunk(64, u64, 2 ** 30)],
  ['chunk index beyond the blob', 'index', inChunk(72, u32, 4000)],
  ['chunk index twice', 'index', sameIndex],
  ['i_format: layout', 'i_format', inFile(0, u16, 1 | (3 << 1))],
  ['i_format: a plain file', 'i_format', inFile(0, u16, 1)],
  ['i_format: a chunk-based symlink', 'i_format', inLink(0, u16, 9)],
  ['i_xattr_icount', 'i_xattr_icount', at((image) => attributed(image).inode)(2, u16, 0xffff)],
  ['i_mode', 'i_mode', inFile(4, u16, 0o170644)],
  ['inode reserved', 'reserved of an inode', inFile(50, u8, 1)],
  ['i_size of a file', 'i_size', inFile(8, plus64, 1)],
  ['i_size of more indexes than there are bytes', 'i_size', inFile(8, u64, 2 ** 50)],
  ['i_size of a symlink', 'i_size', inLink(8, u64, 0)],
  ['i_size of a device', 'i_size', at((image) => isA(image, 0o020000).inode)(8, u64, 1)],
  ['i_u of a fifo', 'i_u', at((image) => isA(image, 0o010000).inode)(16, u32, 1)],
  ['i_u: chunk format', 'i_u.c.format', inFile(16, u32, 0x08)],
  ['i_u: extent of the kernel', 'i_u.c.format', at((image) => large(image).inode)(16, u32, 0x21), 'chunk-64k'],
  ['i_u: blocks of a directory', 'i_u', at((image) => largeDirectory(image).inode)(16, u32, 4000)],
  ['i_mtime_nsec', 'i_mtime_nsec', inFile(40, u32, 1e9)],
  ['i_nlink of a file', 'i_nlink', inFile(44, u32, 9)],
  ['i_nlink of a directory', 'i_nlink', at((image) => directory(image).inode)(44, plus32, 1)],
  ['h_shared_count', 'h_shared_count', inXattrs(4, u8, 1)],
  ['h_reserved2', 'h_reserved2', inXattrs(9, u8, 1)],
  ['e_name_index', 'e_name_index', inXattrs(13, u8, 5)],
  ['e_value_size', 'e_value_size', inXattrs(14, u16, 0x8000)],
  ['dirent nid of nothing', 'nid', inEntry(0, u64, 2 ** 40)],
  ['dirent nid of "."', 'nid', at((image) => dot(image, directory(image).inode))(0, u64, 128)],
  ['dirent nid: a cycle', 'nid', at((image) => directory(image).entry)(0, u64, 128)],
  ['dirent nameoff', 'nameoff', at((image) => entriesOf(image, rootOf(image))[2]!.entry)(8, u16, 1)],
  ['dirent file_type', 'file_type', inEntry(10, u8, 3)],
  ['dirent reserved', 'reserved of an entry', inEntry(11, u8, 1)],
  ['name with a slash', 'name', at((image) => file(image).name)(0, u8, 0x2f)],
  ['names not sorted', 'name', at((image) => entriesOf(image, rootOf(image))[3]!.name)(0, u8, 0x21)],
  ['a name twice', 'name', sameName],
  ['symlink with a NUL', 'symlink', at((image) => link(image).behind)(0, u8, 0)],
  ['chunk index: device_id', 'device_id', inIndexes(2, u8, 9)],
  ['chunk index: number', 'chunk index', inIndexes(0, u16, 0xfff0)],
  ['chunk index: startblk_lo', 'startblk_lo', inIndexes(4, plus32, 1)],
  ['two inodes in one place', 'i_size', overlapping],
  ['a lost inode', 'unreferenced', lost],
  ['a cut file', 's_chunk_table_offset', () => 1176],
];

const nidOf = (image: Buffer, { entry }: Located): number => Number(image.readBigUInt64LE(entry));

const dot = (image: Buffer, inode: number): number => entriesOf(image, inode).find(({ text }) => text === '.')!.entry;

function sameBlob(image: Buffer): number {
  image.copy(image, blobRow(image, 1), blobRow(image, 0), blobRow(image, 0) + 64);
  image.copy(image, 1408 + 128, 1408, 1408 + 64);
  return blobRow(image, 1);
}

function sameOffset(image: Buffer): number {
  const [first, second] = [chunkRow(image, 0), chunkRow(image, 1)];
  image.copy(image, second + 56, first + 56, first + 64);
  return (image.readUInt32LE(first + 72) < image.readUInt32LE(second + 72) ? second : first) + 56;
}

function sameIndex(image: Buffer): number {
  const [first, second] = [chunkRow(image, 0), chunkRow(image, 1)];
  image.copy(image, second + 72, first + 72, first + 76);
  return second + 72;
}

function sameName(image: Buffer): number {
  // Two names of one length that follow one another.
  const pair = (inode: number) => {
    const entries = entriesOf(image, inode);
    const place = entries.findIndex(({ text }, i) => text.length > 2 && entries[i + 1]?.text.length === text.length);
    return place < 0 ? null : ([entries[place]!, entries[place + 1]!] as const);
  };
  const { inode } = isA(image, DIR, (at) => pair(at) !== null);
  const [first, second] = pair(inode)!;
  image.copy(image, second.name, first.name, first.name + first.text.length);
  return second.name;
}

/** A symlink's target grows over the inode behind it. */
function overlapping(image: Buffer): number {
  const { inode, behind } = link(image);
  const size = sizeOf(image, inode);
  const end = Math.ceil((behind + size) / 32) * 32;
  image.writeBigUInt64LE(BigInt(size + 64), inode + 8);
  // The one that begins inside is told of, at the field that gives it its length.
  return findInode(image, (other) => other >= end && other < end + 32).inode + 8;
}

/** An inode in the empty bytes behind the last one: nothing leads there. */
function lost(image: Buffer): number {
  let end = chunkRow(image, 0);
  while (image[end - 1] === 0) end--;
  const place = Math.ceil(end / 32) * 32 + 32;
  image.copy(image, place, file(image).inode, file(image).inode + 64);
  return place;
}

describe('a damaged bootstrap', () => {
  it.each(['default', 'merged', 'prefetch', 'chunk-64k'])('%s is clean as it is', (variant) => {
    expect(problemsOf(read(variant))).toEqual([]);
  });

  for (const [what, field, damage, variant = 'default'] of DAMAGES) {
    it(`${what}: the report names the field ${field} and its offset`, () => {
      let image: Buffer = read(variant);
      const offset = damage(image);
      if (what === 'a cut file') image = image.subarray(0, 20 * 4096);
      const problems = problemsOf(image);
      expect(problems.map((problem) => `${problem.field} at ${problem.offset}`)).toContain(`${field} at ${offset}`);
    });
  }

  it('has all its problems listed, not the first one alone', () => {
    const image = read('default');
    const damages = ['inos', 'blocks', 'i_mtime_nsec', 'cipher_algo', 'dirent file_type', 'chunk flags: a hole'];
    const chosen = DAMAGES.filter(([what]) => damages.includes(what));
    const wanted = chosen.map(([, field, damage]) => `${field} at ${damage(image)}`);
    const found = problemsOf(image).map(({ field, offset }) => `${field} at ${offset}`);
    expect(wanted).toHaveLength(damages.length);
    for (const problem of wanted) expect(found).toContain(problem);
  });

  it('says which file is meant', () => {
    const image = read('default');
    const { path, inode } = findInode(image, (place) => typeOf(image, place) === REG && sizeOf(image, place) > 0);
    image.writeUInt32LE(77, inode + 44);
    expect(problemsOf(image)).toEqual([
      expect.objectContaining({ field: 'i_nlink', path, severity: 'error', offset: inode + 44 }),
    ]);
  });

  it('with the same problem everywhere does not hide others behind it', () => {
    const image = read('default');
    for (let row = 0; row < 174; row++) image.writeUInt32LE(0x33, chunkRow(image, row) + 36);
    image.writeUInt32LE(1, 1028);
    const findings = new Findings('bootstrap');
    checkBootstrap(image, findings);
    const problems = findings.sorted();
    expect(problems.filter(({ field }) => field === 'flags')).toHaveLength(MAX_PER_FIELD);
    expect(problems.map(({ field }) => field)).toContain('checksum');
    expect(findings.errors).toBeGreaterThanOrEqual(174);
  });

  it('that is no bootstrap at all is one problem', () => {
    expect(problemsOf(Buffer.alloc(8192, 'lacuna'))).toEqual([
      expect.objectContaining({ field: 'magic', offset: 1024 }),
    ]);
    expect(problemsOf(Buffer.alloc(100))).toEqual([expect.objectContaining({ field: 'bootstrap' })]);
  });
});
