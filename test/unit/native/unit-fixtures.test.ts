/** Every unit of the images that Nydus made: decoded by both codecs, each chunk in it hashed. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Chunk, Unit } from '../../../src/blob/table.ts';
import { needsMeta, type RafsBlob } from '../../../src/formats/rafs/blob.ts';
import { metaRange, unpackMeta } from '../../../src/formats/rafs/meta.ts';
import { openBootstrap, type RafsImage } from '../../../src/formats/rafs/open.ts';
import { findAddon } from '../../../src/native/addon.ts';
import { type Codec, nativeCodec, portableCodec } from '../../../src/native/codec.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';

const SUITES: [string, () => Codec, string | null][] = [
  ['native', () => nativeCodec(findAddon()!), needs('addon').reason],
  ['portable', portableCodec, needs('zstd-napi', '@napi-rs/blake-hash').reason],
];

/** Where the data of a blob of the variant is: beside its bootstrap, or in the image it refers to. */
function blobOf(variant: string, id: string): Buffer {
  if (variant === 'zran') return readFileSync(fixture('oci/tame-mini/blobs/sha256', id));
  return readFileSync(fixture('rafs', variant, id));
}

async function open(variant: string, codec: Codec): Promise<RafsImage> {
  const bytes = readFileSync(fixture('rafs', variant, 'bootstrap'));
  const metas = new Map<string, Buffer>();
  for (const blob of openBootstrap(bytes, { subject: variant }).blobs.filter(needsMeta)) {
    metas.set(blob.id, await unpackMeta(storedMeta(variant, blob), blob, codec, variant));
  }
  return openBootstrap(bytes, { subject: variant, metas });
}

function storedMeta(variant: string, blob: RafsBlob): Buffer {
  const { offset, size } = metaRange(blob);
  const file = readFileSync(fixture('rafs', variant, blob.metaDigest?.toString('hex') ?? blob.id));
  return file.subarray(offset, offset + size);
}

/** Chunks by the unit they lie within. */
function byUnit(chunks: readonly Chunk[]): Map<Unit, Chunk[]> {
  const units = new Map<Unit, Chunk[]>();
  for (const chunk of chunks) {
    const { unit } = chunk.within!;
    units.set(unit, [...(units.get(unit) ?? []), chunk]);
  }
  return units;
}

describe.each(SUITES)('units that Nydus made: %s', (_, openCodec, missing) => {
  it.skipIf(missing !== null).each(['batch', 'encrypted', 'zran', 'zran-single', 'estargz-ref'])(
    '%s',
    async (variant) => {
      const codec = openCodec();
      const image = await open(variant, codec);
      let [units, several] = [0, 0];
      for (const [index, { id }] of image.blobs.entries()) {
        const blob = blobOf(variant, id);
        const chunks = image.chunksOf(index).filter(({ within }) => within !== null);
        for (const [unit, members] of byUnit(chunks)) {
          const stored = blob.subarray(unit.compressedOffset, unit.compressedOffset + unit.compressedSize);
          const plain = await codec.decodeUnit(stored, unit);
          expect(plain.length).toBe(unit.size);
          for (const { within, uncompressedSize, digester, digest } of members) {
            const { offset } = within!;
            codec.verify(plain.subarray(offset, offset + uncompressedSize), digester, digest);
          }
          units += 1;
          if (members.length > 1) several += 1;
        }
      }
      expect(units).toBeGreaterThan(0);
      if (variant !== 'encrypted') expect(several).toBeGreaterThan(0);
    },
  );
});
