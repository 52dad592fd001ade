/** What every table of fields must be: whole, without gaps, and the same to its decoder as to its encoder. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { Reader } from '../../../src/binary/reader.ts';
import { STRUCTURES } from '../../kit/structures.ts';

/** Fields in the place of another one. */
const SHARED: ReadonlySet<string> = new Set(['BlobChunkInfoV2Ondisk crc32']);

describe('on-disk structures', () => {
  it('have a field for every byte, in their order', () => {
    for (const { name, size, fields } of STRUCTURES) {
      const own = Object.values(fields).filter((field) => !SHARED.has(`${name} ${field.name}`));
      let end = 0;
      for (const field of own) {
        expect(field.at, `${name} ${field.name}`).toBe(end);
        end += field.size;
      }
      expect(end, name).toBe(size);
    }
  });

  it('are all documented', () => {
    const sources = ['src/formats/rafs', 'src/tree'].flatMap((folder) =>
      readdirSync(join(checkout, folder)).map((file) => readFileSync(join(checkout, folder, file), 'utf8')),
    );
    const defined = sources.flatMap((text) => text.match(/ = struct\(/g) ?? []);
    expect(defined).toHaveLength(STRUCTURES.length);
  });

  it('decode to what was encoded', () => {
    for (const structure of STRUCTURES) {
      // Octal fields end with NULs, which are no digits.
      if (structure.name === 'ustar header') continue;
      const stored = Buffer.from(Array.from({ length: structure.size }, (_, i) => (i * 7) % 16));
      const values = structure.decode(new FreeReader(stored, structure.name), 0);
      const again = structure.decode(new FreeReader(structure.encoded(values), structure.name), 0);
      expect(again, structure.name).toEqual(values);
    }
  });
});

/** Numbers of any size: the pattern has some beyond 2^53, of which the upper half is left out. */
class FreeReader extends Reader {
  override u64(offset: number, field: string): number {
    return this.u32(offset, field);
  }
  override i64(offset: number, field: string): number {
    return this.u32(offset, field);
  }
}
