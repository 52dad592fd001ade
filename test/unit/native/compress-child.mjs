/** Prints rayon's thread count and a hash of what compressing many chunks gives; see chunks.test.ts. */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

const addon = createRequire(import.meta.url)('../../../dist/native/lacuna.node');
const hash = createHash('sha256');
for (const [count, size] of [
  [300, 4096],
  [40, 131_072],
  [3, 1_000_000],
]) {
  const data = Buffer.alloc(count * size);
  for (let at = 0; at < data.length; at += 1) data[at] = (at * at) >>> ((at >>> 14) % 13);
  const ranges = Uint32Array.from({ length: count * 2 }, (_, index) => (index % 2 === 0 ? (index / 2) * size : size));
  const output = Buffer.alloc(data.length);
  const { length, records } = await addon.compressChunks(data, ranges, output, 3, 3);
  hash.update(output.subarray(0, length)).update(Buffer.from(records.buffer));
}
process.stdout.write(`${process.env.RAYON_NUM_THREADS} ${hash.digest('hex')}\n`);
