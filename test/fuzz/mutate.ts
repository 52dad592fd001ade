/**
 * Changes of bytes and documents that find what a decoder forgot to check. Seeded: the same numbers make the same
 * changes.
 */

/** A number of 0 … below − 1. */
export type Pick = (below: number) => number;

/** Values at which counts, sizes and offsets go wrong. */
const VALUES: readonly bigint[] = [
  0n,
  1n,
  2n,
  7n,
  0x7fn,
  0xffn,
  0x1000n,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  1n << 32n,
  1n << 40n,
  1n << 53n,
  (1n << 64n) - 1n,
];

/** Where fields lie that govern all the rest: half of the changes go there. */
export type Hot = ReadonlyArray<readonly [at: number, length: number]>;

/** One to three changes: a byte, a bit, a field of 2, 4 or 8 bytes, a piece copied over another, the end cut off. */
export function mutateBytes(original: Buffer, pick: Pick, hot: Hot): Buffer {
  let bytes = Buffer.from(original);
  for (let n = 1 + pick(3); n > 0 && bytes.length >= 64; n--) {
    const place = hot.length > 0 && pick(2) === 0 ? hot[pick(hot.length)]! : ([0, bytes.length] as const);
    const at = Math.min(place[0] + pick(place[1]), bytes.length - 1);
    const value = VALUES[pick(VALUES.length)]!;
    switch (pick(9)) {
      case 0:
        bytes[at] = pick(256);
        break;
      case 1:
        bytes[at]! ^= 1 << pick(8);
        break;
      case 2:
        bytes.writeUInt16LE(Number(value & 0xffffn), Math.min(at & ~1, bytes.length - 2));
        break;
      case 3:
      case 4:
        bytes.writeUInt32LE(Number(value & 0xffffffffn), Math.min(at & ~3, bytes.length - 4));
        break;
      case 5:
        bytes.writeBigUInt64LE(value, Math.min(at & ~7, bytes.length - 8));
        break;
      case 6: {
        const from = pick(bytes.length - 31) & ~31;
        bytes.copy(bytes, Math.min(at & ~31, bytes.length - 32), from, from + 32 * (1 + pick(64)));
        break;
      }
      case 7: {
        // One more, one less: what a check with the wrong sign lets through.
        const field = Math.min(at & ~3, bytes.length - 4);
        bytes.writeUInt32LE((bytes.readUInt32LE(field) + (pick(2) === 0 ? 1 : 0xffff_ffff)) >>> 0, field);
        break;
      }
      default:
        bytes = Buffer.from(bytes.subarray(0, pick(4) === 0 ? pick(bytes.length) : bytes.length & ~511));
    }
  }
  return bytes;
}

/** Text with fields of digits: numbers, signs, blanks and NULs where others stand, lines doubled or left out. */
export function mutateText(original: Buffer, pick: Pick, hot: Hot): Buffer {
  const bytes = mutateBytes(original, pick, hot);
  if (bytes.length === 0) return bytes;
  const odd = [
    '0',
    '7',
    '8',
    '9',
    '-',
    '+',
    ' ',
    '\0',
    '\n',
    '=',
    '/',
    '.',
    '\x80',
    '\xff',
    '99999999999',
    '../',
    '1 a=b\n',
  ];
  for (let n = pick(3); n > 0; n--) {
    const [at, length] = hot.length > 0 ? hot[pick(hot.length)]! : [0, bytes.length];
    bytes.write(odd[pick(odd.length)]!, Math.min(at + pick(length), bytes.length - 1), 'latin1');
  }
  return bytes;
}

/** Makes the checksums right of all tar headers at multiples of 512, so that what is behind that check is reached. */
export function mendChecksums(tar: Buffer): Buffer {
  for (let at = 0; at + 512 <= tar.length; at += 512) {
    const header = tar.subarray(at, at + 512);
    if (header.toString('latin1', 257, 262) !== 'ustar') continue;
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  return tar;
}

const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 53,
  1e308,
  '',
  'sha256:',
  `sha256:${'A'.repeat(64)}`,
  '../../etc/passwd',
  '\u0000',
  '\ud800',
  '__proto__',
  [],
  {},
  [[[[]]]],
  { __proto__: { a: 1 } },
];

/** A JSON document with one to three values replaced, left out, doubled or put elsewhere; sometimes broken as text. */
export function mutateJson(original: Buffer, pick: Pick): Buffer {
  const document: unknown = JSON.parse(original.toString());
  for (let n = 1 + pick(3); n > 0; n--) {
    const places = placesIn(document);
    if (places.length === 0) break;
    const { holder, key } = places[pick(places.length)]!;
    const kind = pick(6);
    if (kind === 0) delete holder[key];
    else if (kind === 1) holder[key] = places[pick(places.length)]!.holder;
    else if (kind === 2) holder[`${key}x`] = holder[key];
    else holder[key] = ODD_VALUES[pick(ODD_VALUES.length)];
  }
  let text: string;
  try {
    text = JSON.stringify(document);
  } catch {
    // A value was put into itself.
    text = '['.repeat(1 + pick(5000));
  }
  const bytes = Buffer.from(text);
  return pick(8) === 0 ? mutateText(bytes, pick, []) : bytes;
}

interface Place {
  readonly holder: Record<string, unknown>;
  readonly key: string;
}

function placesIn(document: unknown): Place[] {
  const places: Place[] = [];
  const known = new Set<unknown>();
  const todo = [document];
  for (const value of todo) {
    if (typeof value !== 'object' || value === null || known.has(value)) continue;
    known.add(value);
    const holder = value as Record<string, unknown>;
    for (const key of Object.keys(holder)) {
      places.push({ holder, key });
      todo.push(holder[key]);
    }
  }
  return places;
}
