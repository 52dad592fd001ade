/** Damaged tars: a FormatError or a tree, whatever the bytes. */
import { describe, expect, it } from 'vitest';
import { isLacunaError } from '../../../src/errors.ts';
import { overlay } from '../../../src/tree/overlay.ts';
import { layerTars, parseLayer } from '../../kit/layers.ts';
import { random } from '../../kit/random.ts';
import { oldSparse, sparse00, sparse01, sparse10 } from '../../kit/sparse.ts';
import { END, gnuLong, member, pax, sumOf } from '../../kit/tar.ts';

const ROUNDS = 1500;

/** A tar with one of everything. */
const TAR = Buffer.concat([
  pax({ comment: 'global' }, 'g'),
  member({ name: './', type: '5', mode: 0o755 }),
  pax({ path: 'a/long/name', mtime: '-1.5', 'SCHILY.xattr.user.x': 'y' }),
  member({ name: 'cut', data: 'x'.repeat(700) }),
  gnuLong('L', `${'d/'.repeat(60)}f`),
  member({ name: 'cut', data: 'hello' }),
  member({ name: 'link', type: '1', link: 'a/long/name' }),
  member({ name: 'sym', type: '2', link: '../../a' }),
  member({ name: 'sym/through', data: 'z' }),
  member({ name: '.wh.gone' }),
  member({ name: 'a/.wh..wh..opq' }),
  member({ name: 'c', type: '3' }),
  END,
]);

/** Changes bytes; mends the checksum of the header they lie in most of the time, so that what lies behind it is reached. */
function mutate(original: Buffer, pick: (below: number) => number): Buffer {
  const tar = Buffer.from(original);
  for (let n = 1 + pick(4); n > 0; n--) {
    const at = pick(tar.length);
    tar[at] = pick(3) === 0 ? pick(256) : '0\0/. 7xLKSg5'.charCodeAt(pick(12));
    const header = tar.subarray(at - (at % 512), at - (at % 512) + 512);
    if (pick(8) === 0 || header.toString('latin1', 257, 262) !== 'ustar') continue;
    header.fill(' ', 148, 156);
    header.write(`${sumOf(header).toString(8).padStart(7, '0')}\0`, 148);
  }
  return pick(10) === 0 ? tar.subarray(0, pick(tar.length)) : tar;
}

/** Sparse files in every form. */
const SPARSE = Buffer.concat([
  ...[oldSparse, sparse00, sparse01, sparse10].map((make) =>
    make({ name: 's', size: 20_000, parts: Array.from({ length: 30 }, (_, i) => [i * 600, `${i}`] as const) }),
  ),
  END,
]);

describe('mutated tars', () => {
  it.each([
    ['sparse files', SPARSE, ROUNDS],
    ['one of everything', TAR, ROUNDS],
    ['a layer with GNU headers', layerTars('oci/nasty-mini', 'nasty-mini-gzip')[2]!, ROUNDS / 5],
  ])('%s', (_, original, rounds) => {
    const pick = random(original.length);
    let refused = 0;
    for (let round = 0; round < rounds; round++) {
      try {
        overlay([parseLayer(mutate(original, pick), 4096).tree]);
      } catch (error) {
        if (!isLacunaError(error) || error.code !== 'FORMAT') throw new Error(`round ${round}`, { cause: error });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(rounds / 10);
    expect(refused).toBeLessThan(rounds);
  });
});
