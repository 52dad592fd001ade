/** Deliberate damage to the end of a blob, to its chunk info and to its data. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkBootstrap } from '../../../src/check/bootstrap.ts';
import { check } from '../../../src/check/check.ts';
import { checkChunkInfo } from '../../../src/check/chunk-info.ts';
import { Findings, type Problem } from '../../../src/check/findings.ts';
import type { RafsBlob } from '../../../src/formats/rafs/blob.ts';
import { unpackMeta } from '../../../src/formats/rafs/meta.ts';
import { codec } from '../../../src/native/codec.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { chunkRow } from './damage.ts';

const skip = needs('addon');
const dir = mkdtempSync(join(tmpdir(), 'check-'));
afterAll(() => rmSync(dir, { recursive: true }));

const places = (problems: readonly Problem[]): string[] => problems.map(({ field, offset }) => `${field} at ${offset}`);
const sum = (header: Buffer): number => header.reduce((all, byte, i) => all + (i >= 148 && i < 156 ? 32 : byte), 0);

/** A variant with `damage` done to its one blob. */
async function damaged(
  variant: string,
  damage: (blob: Buffer) => Buffer | void,
  deep = false,
): Promise<readonly Problem[]> {
  const to = mkdtempSync(join(dir, 'b-'));
  cpSync(fixture('rafs', variant), to, { recursive: true });
  const id = readdirSync(to).find((name) => /^[0-9a-f]{64}$/.test(name))!;
  const blob = readFileSync(join(to, id));
  writeFileSync(join(to, id), damage(blob) ?? blob);
  const bootstrap = readdirSync(to).find((name) => name === 'bootstrap' || name.endsWith('.boot'))!;
  return (await check(`rafs:${join(to, bootstrap)}`, { deep })).problems;
}

/** Writes a tar header's size and makes its checksum right again. */
function resize(header: Buffer, size: number): void {
  header.write(size.toString(8).padStart(11, '0'), 124, 'latin1');
  header.write(`${sum(header).toString(8).padStart(7, '0')}\0`, 148, 'latin1');
}

describe.skipIf(skip.reason)('a damaged blob', () => {
  // Its chunk info is stored as it is: 18 entries at 577075, then the header; nothing follows.
  const CI = 577_075;
  const V1: ReadonlyArray<readonly [string, string, number, (blob: Buffer) => unknown]> = [
    [
      'uncompressed_offset',
      'uncompressed_offset',
      3 * 16,
      (blob) => blob.writeUInt8(blob[CI + 3 * 16 + 1]! ^ 0x10, CI + 3 * 16 + 1),
    ],
    [
      'uncompressed_size',
      'uncompressed_size',
      3 * 16 + 4,
      (blob) => blob.writeUInt8(blob[CI + 3 * 16 + 6]! ^ 1, CI + 3 * 16 + 6),
    ],
    [
      'compressed_offset',
      'compressed_offset',
      3 * 16 + 8,
      (blob) => blob.writeUInt8(blob[CI + 3 * 16 + 8]! ^ 1, CI + 3 * 16 + 8),
    ],
    [
      'compressed_size',
      'compressed_size',
      3 * 16 + 12,
      (blob) => blob.writeUInt8(blob[CI + 3 * 16 + 14]! ^ 1, CI + 3 * 16 + 14),
    ],
    ['s_magic', 's_magic', 4096, (blob) => blob.writeUInt32LE(1, CI + 288)],
    ['s_features', 's_features', 4096 + 4, (blob) => blob.writeUInt32LE(0x40000005, CI + 288 + 4)],
    ['s_ci_compressor', 's_ci_compressor', 4096 + 8, (blob) => blob.writeUInt32LE(3, CI + 288 + 8)],
    ['s_ci_entries', 's_ci_entries', 4096 + 12, (blob) => blob.writeUInt32LE(17, CI + 288 + 12)],
    ['s_ci_offset', 's_ci_offset', 4096 + 16, (blob) => blob.writeUInt32LE(17, CI + 288 + 16)],
    ['s_ci_compressed_size', 's_ci_compressed_size', 4096 + 24, (blob) => blob.writeUInt32LE(17, CI + 288 + 24)],
    ['s_ci_uncompressed_size', 's_ci_uncompressed_size', 4096 + 32, (blob) => blob.writeUInt32LE(17, CI + 288 + 32)],
    ['s_ci_zran_size', 's_ci_zran_size', 4096 + 48, (blob) => blob.writeUInt32LE(17, CI + 288 + 48)],
    ['s_ci_zran_count', 's_ci_zran_count', 4096 + 56, (blob) => blob.writeUInt32LE(17, CI + 288 + 56)],
    ['reserved', 'reserved of the chunk info header', 4096 + 100, (blob) => blob.writeUInt8(1, CI + 288 + 100)],
    ['s_magic2', 's_magic2', 4096 + 4092, (blob) => blob.writeUInt32LE(1, CI + 288 + 4092)],
  ];
  it.each(V1)('chunk info, %s: %s at %i', async (_, field, offset, damage) => {
    const problems = await damaged('none', (blob) => {
      damage(blob);
    });
    expect(places(problems)).toContain(`${field} at ${offset}`);
    expect(problems.every(({ subject }) => subject.startsWith('chunk info of blob '))).toBe(true);
  });

  // Tar header of data 86114 · chunk info 86626 … · table of contents with four entries, 1024 bytes, at the end.
  const SIZE = 99_260;
  const TOC = SIZE - 1024;
  const DIGESTS = TOC - 512 - 174 * 32;
  const END: ReadonlyArray<readonly [string, string, number, (blob: Buffer) => unknown]> = [
    ['a tar header: checksum', 'chksum', SIZE - 512 + 148, (blob) => blob.writeUInt8(0x37, SIZE - 512 + 148)],
    ['a tar header: name', 'name', SIZE - 512, (blob) => blob.write('rafs.blob.tic', SIZE - 512)],
    ['a tar header: size', 'size', SIZE - 512 + 124, (blob) => blob.write('z', SIZE - 512 + 124)],
    ['a tar header: magic', 'magic', 86_114 + 257, (blob) => blob.write('x', 86_114 + 257)],
    [
      'a tar header: another size',
      'size',
      DIGESTS - 512 + 124,
      (blob) => resize(blob.subarray(DIGESTS - 512), 4096 + 921),
    ],
    [
      'digests',
      'blob.digest',
      DIGESTS + 5 * 32,
      (blob) => blob.writeUInt8(blob[DIGESTS + 5 * 32 + 9]! ^ 1, DIGESTS + 5 * 32 + 9),
    ],
    [
      'the digest of digests',
      'uncompressed_digest',
      TOC + 3 * 128 + 24,
      (blob) => blob.writeUInt8(blob[DIGESTS + 40]! ^ 1, DIGESTS + 40),
    ],
    ['a TOC entry: flags', 'flags', TOC + 128, (blob) => blob.writeUInt32LE(8, TOC + 128)],
    ['a TOC entry: name', 'name', TOC + 128 + 8, (blob) => blob.write('blob.mota', TOC + 128 + 8)],
    [
      'a TOC entry: one name twice',
      'name',
      TOC + 256 + 8,
      (blob) => blob.copy(blob, TOC + 256 + 8, TOC + 128 + 8, TOC + 128 + 24),
    ],
    ['a TOC entry: digest', 'uncompressed_digest', TOC + 128 + 24, (blob) => blob.writeUInt8(1, TOC + 128 + 24)],
    [
      'a TOC entry: compressed_offset',
      'compressed_offset',
      TOC + 256 + 56,
      (blob) => blob.writeUInt32LE(9, TOC + 256 + 56),
    ],
    [
      'a TOC entry: compressed_size',
      'compressed_size',
      TOC + 256 + 64,
      (blob) => blob.writeUInt32LE(9, TOC + 256 + 64),
    ],
    ['a TOC entry: uncompressed_size', 'uncompressed_size', TOC + 72, (blob) => blob.writeUInt32LE(9, TOC + 72)],
    ['a TOC entry: reserved', 'reserved of a TOC entry', TOC, (blob) => blob.writeUInt8(9, TOC + 100)],
    ['the digest of the table', 'blob_toc_digest', TOC, (blob) => blob.writeUInt8(9, TOC + 100)],
  ];
  it.each(END)('%s: %s at %i', async (_, field, offset, damage) => {
    const problems = await damaged('blob-toc', (blob) => {
      damage(blob);
    });
    expect(places(problems)).toContain(`${field} at ${offset}`);
  });

  it('that is cut, or has something behind its end', async () => {
    const cut = await damaged('default', (blob) => blob.subarray(0, 91_000));
    expect(cut).toContainEqual(expect.objectContaining({ code: 'SIZE_MISMATCH', field: 'compressed_size' }));
    const longer = await damaged('default', (blob) => Buffer.concat([blob, Buffer.alloc(10)]));
    expect(places(longer)).toContain(`compressed_size at 91132`);
    const short = await damaged('default', (blob) => blob.subarray(0, 100));
    expect(places(short)).toContain('ci_offset at null');
  });

  it('whose chunk info does not decompress', async () => {
    const problems = await damaged('default', (blob) => void blob.fill(0x55, 86_200, 86_300));
    expect(places(problems)).toContain('chunk info at 86114');
  });

  it('in its data: found when all is read, with the chunk, its place and a file that has it', async () => {
    const row = readFileSync(fixture('rafs/default/bootstrap'));
    const at = chunkRow(row, 7);
    const [index, offset] = [row.readUInt32LE(at + 72), Number(row.readBigUInt64LE(at + 48))];
    const change = (blob: Buffer) => void blob.writeUInt8(blob[offset + 1]! ^ 0x20, offset + 1);
    expect(await damaged('default', change)).toEqual([]);
    const problems = await damaged('default', change, true);
    expect(problems).toContainEqual(
      expect.objectContaining({ field: `data of chunk ${index}`, offset, path: expect.stringMatching(/^\//) }),
    );
    expect(problems).toContainEqual(expect.objectContaining({ field: 'blob_id', code: 'DIGEST_MISMATCH' }));
    expect(problems).toHaveLength(2);
  });

  it.each(['batch', 'encrypted'])('of kind %s, in its data', async (variant) => {
    const problems = await damaged(variant, (blob) => void blob.writeUInt8(blob[100]! ^ 1, 100), true);
    expect(problems.map(({ field }) => field)).toContainEqual(expect.stringMatching(/^data of chunk \d+$/));
  });

  it('whose chunk table has a wrong checksum, while the digests are right', async () => {
    const to = mkdtempSync(join(dir, 'c-'));
    cpSync(fixture('rafs/default'), to, { recursive: true });
    const image = readFileSync(join(to, 'bootstrap'));
    const at = chunkRow(image, 7);
    image.writeUInt8(image[at + 76]! ^ 4, at + 76);
    writeFileSync(join(to, 'bootstrap'), image);
    const { problems } = await check(`rafs:${to}/bootstrap`, { deep: true });
    expect(problems).toEqual([expect.objectContaining({ field: `crc32 of chunk ${image.readUInt32LE(at + 72)}` })]);
  });
});

describe.skipIf(skip.reason)('damaged chunk info of version 2', () => {
  const load = async (variant: string, file: (names: string[]) => string) => {
    const findings = new Findings('bootstrap');
    const image = checkBootstrap(readFileSync(fixture('rafs', variant, 'bootstrap')), findings)!;
    const blob = image.blobs[0]!;
    const names = readdirSync(fixture('rafs', variant)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const stored = readFileSync(fixture('rafs', variant, file(names)));
    const range = stored.subarray(blob.ciOffset, blob.ciOffset + blob.ciCompressedSize + 4096);
    const meta = await unpackMeta(range, blob as RafsBlob, codec(), variant);
    const dataSize = (blob.features & 8) === 0 ? blob.ciOffset : blob.compressedSize;
    return (damage: (meta: Buffer) => unknown): string[] => {
      const copy = Buffer.from(meta);
      damage(copy);
      const found = new Findings('chunk info');
      checkChunkInfo(copy, { blob, blobIndex: 0, chunks: image.chunks, dataSize }, found);
      return places(found.sorted());
    };
  };

  it('with batches', async () => {
    const problems = await load('batch', ([name]) => name!);
    expect(problems(() => {})).toEqual([]);
    const contexts = 174 * 24;
    // The first member of a batch.
    expect(problems((meta) => meta.writeUInt8(0x85, 7))).toContain('flags at 7');
    expect(problems((meta) => meta.writeUInt8(0x0d, 7))).toContain('flags at 7');
    expect(problems((meta) => meta.writeUInt32LE(99, contexts))).toContainEqual(
      expect.stringMatching(/^compressed_offset at/),
    );
    expect(problems((meta) => meta.writeUInt32LE(0, contexts))).toContain(`compressed_size at ${contexts}`);
    expect(problems((meta) => meta.writeUInt32LE(2 ** 31, contexts + 4))).toContain(
      `uncompressed_batch_size at ${contexts + 4}`,
    );
    expect(problems((meta) => meta.writeUInt32LE(1, contexts + 4))).toContainEqual(expect.stringMatching(/^offset at/));
    expect(problems((meta) => meta.writeUInt8(1, contexts + 20))).toContain(`reserved of a batch at ${contexts + 20}`);
    const header = Math.ceil(4336 / 4096) * 4096;
    expect(problems((meta) => meta.writeUInt32LE(3, header + 56))).toContain(`s_ci_zran_count at ${header + 56}`);
    expect(problems((meta) => meta.writeUInt32LE(3, header + 40))).toContain(`s_ci_zran_offset at ${header + 40}`);
    expect(problems((meta) => meta.writeUInt8(3, 4336 + 5))).toContain('padding of the chunk info at 4341');
  });

  it('with spans of a gzip stream', async () => {
    const problems = await load('zran-single', (names) => names.find((name) => name.startsWith('b2f1'))!);
    expect(problems(() => {})).toEqual([]);
    const contexts = 174 * 24;
    const second = contexts + 40;
    expect(problems((meta) => meta.writeUInt8(1, 7))).toContain('flags at 7');
    expect(problems((meta) => meta.writeUInt32LE(500, 20))).toContain('context at 20');
    expect(problems((meta) => meta.writeUInt32LE(2 ** 30, 16))).toContain('offset at 16');
    expect(problems((meta) => meta.writeUInt32LE(2 ** 30, second))).toContain(`in_offset at ${second}`);
    expect(problems((meta) => meta.writeUInt32LE(0, second + 48))).toContain(`out_offset at ${second + 48}`);
    expect(problems((meta) => meta.writeUInt32LE(2 ** 30, second + 16))).toContain(`dict_offset at ${second + 16}`);
    expect(problems((meta) => meta.writeUInt32LE(0, second + 24))).toContain(`in_len at ${second + 24}`);
    expect(problems((meta) => meta.writeUInt32LE(0, second + 28))).toContain(`out_len at ${second + 28}`);
    expect(problems((meta) => meta.writeUInt32LE(40_000, second + 32))).toContain(`dict_size at ${second + 32}`);
    expect(problems((meta) => meta.writeUInt8(9, second + 37))).toContain(`ctx_bits at ${second + 37}`);
    expect(problems((meta) => meta.writeUInt8(9, second + 38))).toContain(`reserved of a span at ${second + 38}`);
  });
});
