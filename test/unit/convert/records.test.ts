/** Records of layers: what is read back is what was written, and what nobody writes is refused with an error of ours. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { decodeLayer, encodeLayer } from '../../../src/convert/layer-record.ts';
import { type ConvertOptions, planOf } from '../../../src/convert/options.ts';
import { isLacunaError } from '../../../src/errors.ts';
import { addon } from '../../../src/native/addon.ts';
import { layoutBlobPath } from '../../kit/converted.ts';
import { fixture } from '../../kit/layers.ts';
import { random as randomOf } from '../../kit/random.ts';
import { needs } from '../../kit/skip.ts';

interface Entry {
  readonly digest: string;
  readonly annotations: Readonly<Record<string, string>>;
}

describe.skipIf(needs('addon').reason)('the record of a layer', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-records-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  /** The records that a conversion of nasty-mini left, with what is needed to read them. */
  async function recordsOf(options: ConvertOptions) {
    const target = mkdtempSync(join(dir, 'r-'));
    rmSync(target, { recursive: true });
    await convert(`oci:${fixture('oci/nasty-mini')}:nasty-mini-gzip`, `oci:${target}:lazy`, options);
    const records = join(target, '.lacuna-layers');
    const index = JSON.parse(readFileSync(join(records, 'index.json'), 'utf8'));
    const { layers } = JSON.parse(readFileSync(layoutBlobPath(records, index.manifests[0].digest), 'utf8'));
    const readMeta = async (digest: string) => readFileSync(layoutBlobPath(target, digest));
    return (layers as Entry[]).map(({ digest, annotations }) => ({
      bytes: readFileSync(layoutBlobPath(records, digest)),
      decode: (bytes: Buffer) => {
        const input = { digest: annotations['lacuna.layer']!, diffId: annotations['lacuna.diff-id']!, size: 0 };
        return decodeLayer(bytes, input, planOf(options).layer, readMeta);
      },
    }));
  }

  const partsOf = (plain: Buffer) => {
    const end = 4 + plain.readUInt32LE();
    return { head: JSON.parse(plain.toString('utf8', 4, end)), rest: plain.subarray(end) };
  };

  it.each([[{}], [{ batchSize: 65536 }], [{ blob: 'separate' as const }], [{ ociRef: true }]])(
    'with %j is the same again',
    async (options) => {
      for (const { bytes, decode } of await recordsOf(options)) {
        const again = encodeLayer(await decode(bytes))!;
        const [mine, kept] = [again, bytes].map((record) => partsOf(addon().zstdDecompress(record, 2 ** 26)));
        expect(mine!.head).toEqual(kept!.head);
        expect(mine!.rest.equals(kept!.rest)).toBe(true);
      }
    },
  );

  it('that is damaged is refused or read, never an error of something else', async () => {
    const random = randomOf(1);
    let refused = 0;
    for (const { bytes, decode } of await recordsOf({ batchSize: 65536 })) {
      const plain = addon().zstdDecompress(bytes, 2 ** 26);
      for (let nth = 0; nth < 400; nth++) {
        const damaged = Buffer.from(plain.subarray(0, nth % 5 === 0 ? random(plain.length) : plain.length));
        for (let times = 1 + (nth % 3); times > 0 && damaged.length > 0; times--) {
          damaged[random(damaged.length)] = random(256);
        }
        await decode(addon().zstdCompress(damaged, 1)).catch((error: unknown) => {
          if (!isLacunaError(error)) throw error;
          refused += 1;
        });
      }
    }
    expect(refused).toBeGreaterThan(300);
  });
});
