/**
 * Every choice that convert offers: the bytes are pinned, the tree that comes back is the truth, and what nydus-image 2.4
 * makes of the same layers says the same, field by field where it is deterministic.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { FEATURE } from '../../../src/formats/rafs/layout.ts';
import { openBootstrap, type RafsImage } from '../../../src/formats/rafs/open.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { type Converted, readConverted } from '../../kit/converted.ts';
import { fixture, zstdDecompress } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, type Row, readRows } from '../../kit/tree.ts';
import { PINNED } from './pinned.ts';

const MIB = 1024 * 1024;
const paths = readFileSync(fixture('rafs/prefetch/prefetch.txt'), 'utf8').trim().split('\n');

const CHOICES: Readonly<Record<string, ConvertOptions>> = {
  default: {},
  'chunk 4 KiB': { chunkSize: 4096 },
  'chunk 1 MiB': { chunkSize: MIB },
  'chunk 16 MiB, level 9': { chunkSize: 16 * MIB, level: 9 },
  lz4: { compressor: 'lz4' },
  none: { compressor: 'none' },
  sha256: { digester: 'sha256' },
  'batch 128 KiB': { batchSize: 128 * 1024, chunkSize: MIB },
  'batch 4 KiB of none': { batchSize: 4096, compressor: 'none' },
  'batch 1 MiB of lz4, separate': { batchSize: MIB, compressor: 'lz4', blob: 'separate' },
  separate: { blob: 'separate' },
  prefetch: { prefetch: paths, chunkSize: MIB },
  align: { align: 2 * MIB },
  'dedup image': { dedup: 'image', digester: 'sha256' },
  'oci-ref': { ociRef: true, chunkSize: MIB },
};

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

describe.skipIf(needs('addon', 'zstd-napi').reason)('convert with each choice', () => {
  const dir = mkdtempSync(join(tmpdir(), 'choices-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const truth = readRows(fixture('truth/tame-mini.merged.jsonl'));

  const made = new Map<string, Promise<Converted>>();
  const converted = (choice: string): Promise<Converted> => {
    const make = async () => {
      const target = join(dir, choice.replaceAll(/\W/g, ''));
      const source = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
      const { digest } = await convert(source, `oci:${target}:lazy`, CHOICES[choice]!);
      return { ...readConverted(target, digest), target };
    };
    const result = made.get(choice) ?? make();
    made.set(choice, result);
    return result;
  };

  it.each(Object.keys(CHOICES))('%s: the same bytes as ever', async (choice) => {
    const { bootstrap, manifest } = await converted(choice);
    const layers = manifest.layers.slice(0, -1).map(({ digest }) => digest.slice(7, 23));
    // A change means that every image in every registry would be converted, pushed and cached anew: have a reason.
    expect({ bootstrap: sha256(bootstrap).slice(0, 16), layers }).toEqual(PINNED[choice]);
  });

  it.each(Object.keys(CHOICES))('%s: the tree that the truth says', async (choice) => {
    const { target } = (await converted(choice)) as Converted & { target: string };
    const rows: Row[] = [];
    const options = { platform: 'linux/amd64', recursive: true, digests: true };
    for await (const row of ls(`oci:${target}:lazy`, options)) rows.push(row);
    expect(diffTrees(truth, rows)).toEqual([]);
  });

  describe('beside what nydus-image made of the same layer', () => {
    /** The fixture's image, and its only blob's chunk info, plain. */
    const nydus = (variant: string) => {
      const image = openBootstrap(readFileSync(fixture('rafs', variant, 'bootstrap')), { subject: variant });
      const blob = image.blobs.find(({ chunkCount }) => chunkCount !== 8 && chunkCount !== 18) ?? image.blobs[0]!;
      const file = readFileSync(fixture('rafs', variant, blob.metaDigest?.toString('hex') ?? blob.id));
      const stored = file.subarray(blob.ciOffset, blob.ciOffset + blob.ciCompressedSize);
      const info = blob.ciCompressor === 3 ? zstdDecompress(stored) : stored;
      const header = file.subarray(blob.ciOffset + stored.length, blob.ciOffset + stored.length + 4096);
      return { image, blob, info, header };
    };
    /** Our blob of as many chunks, and its chunk info. */
    const ours = async (choice: string, chunkCount: number) => {
      const { rafs, members } = await converted(choice);
      const blob = rafs.blobs.find((one) => one.chunkCount === chunkCount)!;
      const meta = members.get(`image/${blob.metaDigest?.toString('hex') ?? blob.id}.blob.meta`)!;
      return { rafs, blob, info: meta.subarray(0, blob.ciUncompressedSize), header: meta.subarray(-4096) };
    };

    it.each([
      ['default', 'chunk 1 MiB'],
      ['batch', 'batch 128 KiB'],
    ])('%s: the same chunk info, batches included', async (variant, choice) => {
      const theirs = nydus(variant);
      const mine = await ours(choice, theirs.blob.chunkCount);
      // Of V1 the compressed halves are left out: a few frames of libzstd's versions differ by a byte.
      const isV2 = (theirs.blob.features & FEATURE.CHUNK_INFO_V2) !== 0;
      const comparable = (info: Buffer) => (isV2 ? info : everyOther8(info));
      expect(comparable(mine.info).equals(comparable(theirs.info))).toBe(true);
      // s_ci_compressor, s_ci_entries; the sizes; where the contexts are, and how many.
      for (const [at, end] of [
        [8, 16],
        [32, 60],
      ] as const) {
        expect(mine.header.subarray(at, end)).toEqual(theirs.header.subarray(at, end));
      }
      const inside = FEATURE.INLINED_CHUNK_DIGEST | FEATURE.HAS_TAR_HEADER | FEATURE.HAS_TOC;
      expect(mine.blob.features).toBe(theirs.blob.features | inside);
    });

    it.each([
      ['none', 'none', 18],
      ['sha256', 'sha256', 174],
      ['lz4', 'lz4', 174],
      ['zran', 'oci-ref', 174],
    ])('%s: the same algorithms', async (variant, choice, count) => {
      const theirs = nydus(variant);
      expect(theirs.blob.chunkCount).toBe(count);
      const { rafs } = await converted(choice);
      const [blob] = rafs.blobs;
      expect(blob!.compressor).toBe(theirs.blob.compressor);
      // The fixture of `none` is BLAKE3 as well.
      expect(blob!.digester).toBe(theirs.blob.digester);
    });

    it('zran: the same header, blob table and chunks, at places of our own', async () => {
      const theirs = nydus('zran');
      const mine = await ours('oci-ref', theirs.blob.chunkCount);
      const fields = ({ blob }: Pick<typeof mine, 'blob'>) => ({
        ...blob,
        ...{ metaDigest: null, metaSize: 0, ciCompressedSize: 0, ciUncompressedSize: 0 },
      });
      expect(fields(mine)).toEqual(fields(theirs));
      expect(mine.header.subarray(0, 16)).toEqual(theirs.header.subarray(0, 16));
      expect(mine.rafs.superblock.flags).toBe(theirs.image.superblock.flags);
      for (let at = 0; at < theirs.blob.chunkCount * 24; at += 24) {
        // Place and size in the device, flags.
        expect(mine.info.subarray(at, at + 8)).toEqual(theirs.info.subarray(at, at + 8));
      }
      const { manifest } = await converted('oci-ref');
      const layers = manifest.layers.slice(0, -1);
      expect(layers.map(({ annotations }) => annotations!['containerd.io/snapshot/nydus-ref'])).toEqual(
        sourceLayers().map(({ digest }) => digest),
      );
    });

    it('prefetch: the same paths in the same order', async () => {
      const list = (image: RafsImage) => image.prefetch();
      const theirs = nydus('prefetch').image;
      const { rafs } = await converted('prefetch');
      expect(list(rafs)).toEqual(list(theirs));
      expect(rafs.superblock.prefetchTableSize).toBe(theirs.superblock.prefetchTableSize);
      expect(rafs.superblock.prefetchTableOffset).toBe(4096 + 256 * rafs.blobs.length);
    });
  });
});

const everyOther8 = (info: Buffer): Buffer =>
  Buffer.concat(Array.from({ length: info.length / 16 }, (_, i) => info.subarray(i * 16, i * 16 + 8)));

/** The gzip layers of the source. */
function sourceLayers(): Array<{ digest: string }> {
  const folder = fixture('oci/tame-mini');
  const blob = (digest: string) => JSON.parse(readFileSync(join(folder, 'blobs', 'sha256', digest.slice(7)), 'utf8'));
  const { manifests } = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8'));
  const entry = manifests.find(
    (one: { annotations: Record<string, string> }) =>
      one.annotations['org.opencontainers.image.ref.name'] === 'tame-mini-gzip',
  );
  return blob(entry.digest).layers;
}
