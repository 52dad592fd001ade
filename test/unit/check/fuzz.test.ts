/**
 * Whatever bytes are changed: the check ends, throws nothing, and what the strict reader refuses it calls an error. So
 * no rule of the reader is missing here.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlobSource } from '../../../src/blob/source.ts';
import { checkBlobs } from '../../../src/check/blobs.ts';
import { checkBootstrap } from '../../../src/check/bootstrap.ts';
import { Findings } from '../../../src/check/findings.ts';
import { FormatError, isLacunaError } from '../../../src/errors.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { checkStructure } from '../../../src/formats/rafs/structure.ts';
import type { FileNode } from '../../../src/tree/node.ts';
import { fixture } from '../../kit/layers.ts';
import { random } from '../../kit/random.ts';
import { needs } from '../../kit/skip.ts';

/** `FUZZ_RUNS` for longer ones. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 60);
const VARIANTS = [
  'default',
  'chunk-64k',
  'prefetch',
  'merged',
  'batch',
  'encrypted',
  'zran-single',
  'tarfs',
  'blob-toc',
];

const skip = needs('addon');

/** Everything that the reader reads of a bootstrap, and what is looked at before it is mounted. */
function readAll(image: Buffer): void {
  const opened = openBootstrap(image, { subject: 'fuzz' });
  checkStructure(image, opened.superblock, opened.blobs.length, 'fuzz');
  const todo: FileNode[] = [opened.root()];
  for (const node of todo) {
    void node.xattrs;
    void node.target;
    if (node.children !== null) todo.push(...new Set(node.children.values()));
    void [...node.chunks].length;
  }
}

describe.skipIf(skip.reason)('check of random damage', () => {
  for (const variant of VARIANTS) {
    const folder = fixture('rafs', variant);
    const original = readFileSync(fixture('rafs', variant, 'bootstrap'));

    it(`${variant}: ends, and is not more lenient than the reader`, () => {
      const below = random(0x1ac0_0000 + variant.length);
      const meta = original.readUInt32LE(1064) * 2 ** original[1036]!;
      for (let run = 0; run < RUNS; run++) {
        const image = Buffer.from(original);
        for (let change = below(4); change >= 0; change--) {
          // Half of all hits go where every byte means something.
          const at = below(2) === 0 ? below(image.length) : below(2) === 0 ? 1024 + below(1024) : meta + below(20_000);
          const place = Math.min(at, image.length - 1);
          image[place] = below(3) === 0 ? below(256) : image[place]! ^ (1 << below(8));
        }
        const findings = new Findings('bootstrap');
        checkBootstrap(image, findings);
        if (findings.errors > 0) continue;
        try {
          readAll(image);
        } catch (error) {
          // Data of batches is found with the blob alone, and the targets that tarfs damages itself are passed over.
          if (isLacunaError(error) && error.code === 'NOT_FOUND') continue;
          if (variant === 'tarfs' && error instanceof FormatError && error.field === 'symlink') continue;
          throw new Error(`run ${run}: the check finds nothing, the reader: ${(error as Error).message}`);
        }
      }
    });

    const ids = readdirSync(folder).filter((name) => /^[0-9a-f]{64}$/.test(name));
    if (ids.length !== 1) continue;
    it(`${variant}: ends on a damaged blob`, async () => {
      const below = random(0x1ac0_1000 + variant.length);
      const stored = readFileSync(fixture('rafs', variant, ids[0]!));
      const image = checkBootstrap(original, new Findings('bootstrap'))!;
      for (let run = 0; run < RUNS / 5; run++) {
        const bytes = Buffer.from(run % 7 === 6 ? stored.subarray(0, below(stored.length)) : stored);
        for (let change = below(4); change >= 0; change--) {
          const near = below(4) === 0 ? below(bytes.length) : bytes.length - 1 - below(Math.min(12_000, bytes.length));
          bytes[near] = below(256);
        }
        const source: BlobSource = {
          subject: 'fuzz',
          async *read(offset, length) {
            yield bytes.subarray(offset, offset + length);
          },
        };
        const place = async () => ({ source, size: bytes.length });
        const findings = new Findings('image');
        const options = { deep: true, signal: new AbortController().signal };
        await checkBlobs(image, { data: place, meta: place, packedMeta: () => null }, findings, options);
        if (!bytes.equals(stored)) expect(findings.errors, `run ${run}`).toBeGreaterThan(0);
      }
    });
  }
});
