/**
 * The unit table of a device: its units, their decoders, and the chunks within them. It is passed to the native side, and
 * saved beside the device's chunk table in the cache. It may hold keys: it is never logged, and its files have mode 0600.
 *
 * No I/O here. The native reader of these bytes, which checks every field, is `native/blobfs/src/units.rs`.
 */
import { createHash } from 'node:crypto';
import { FormatError } from '../errors.ts';
import type { Chunk, Decoder, Unit } from './table.ts';

/**
 * Little-endian. Header: units u32 · members u32 · bytes of state u32 · 0 u32.
 * Unit: 0 compressed_offset u64 · 8 compressed_size u32 · 12 size u32 · 16 kind u8 (1 batch, 2 zran, 3 encrypted) ·
 * 17 compressor u8 · 18 bits u8 · 19 byte u8 · 20 state_offset u32 · 24 state_size u32 · 28 members u32.
 * Members, those of the first unit first: chunk u32 (its index in the table) · offset u32 (in the plain unit).
 * State: windows; keys of 32 bytes with their vectors of 16.
 */
const HEADER_SIZE = 16;
const UNIT_SIZE = 32;
const MEMBER_SIZE = 8;
/** Length of the fields before the place of its state, which identify a unit. */
const UNIT_CORE = 20;
const KINDS = { batch: 1, zran: 2, encrypted: 3 } as const;
const NO_UNIT = -1;

/** Encodes the units of all chunks of a chunk table, in its order; null when every chunk is stored alone. */
export function encodeUnits(chunks: readonly Chunk[]): Buffer | null {
  const members = new Map<Unit, { chunk: number; offset: number }[]>();
  for (const [chunk, { within }] of chunks.entries()) {
    if (within === null) continue;
    const others = members.get(within.unit);
    if (others === undefined) members.set(within.unit, [{ chunk, offset: within.offset }]);
    else others.push({ chunk, offset: within.offset });
  }
  if (members.size === 0) return null;
  const count = [...members.values()].reduce((sum, of) => sum + of.length, 0);
  const head = Buffer.alloc(HEADER_SIZE + members.size * UNIT_SIZE + count * MEMBER_SIZE);
  const states = new States();
  let at = HEADER_SIZE;
  let memberAt = HEADER_SIZE + members.size * UNIT_SIZE;
  for (const [unit, own] of members) {
    writeUnit(head, at, unit, states, own.length);
    at += UNIT_SIZE;
    for (const { chunk, offset } of own) {
      head.writeUInt32LE(chunk, memberAt);
      head.writeUInt32LE(offset, memberAt + 4);
      memberAt += MEMBER_SIZE;
    }
  }
  head.writeUInt32LE(members.size, 0);
  head.writeUInt32LE(count, 4);
  head.writeUInt32LE(states.length, 8);
  return Buffer.concat([head, ...states.pieces]);
}

function writeUnit(out: Buffer, at: number, unit: Unit, states: States, members: number): void {
  const { compressedOffset, compressedSize, size, decoder } = unit;
  const state = stateOf(decoder);
  out.writeBigUInt64LE(BigInt(compressedOffset), at);
  out.writeUInt32LE(compressedSize, at + 8);
  out.writeUInt32LE(size, at + 12);
  out[at + 16] = KINDS[decoder.kind];
  if (decoder.kind === 'zran') {
    out[at + 18] = decoder.bits;
    out[at + 19] = decoder.byte;
  } else {
    out[at + 17] = decoder.compressor;
  }
  out.writeUInt32LE(states.add(state), at + 20);
  out.writeUInt32LE(state.length, at + 24);
  out.writeUInt32LE(members, at + 28);
}

function stateOf(decoder: Decoder): Buffer {
  switch (decoder.kind) {
    case 'batch':
      return Buffer.alloc(0);
    case 'zran':
      return decoder.window;
    case 'encrypted':
      return Buffer.concat([decoder.key, decoder.iv]);
  }
}

/** Concatenates windows and keys. Equal states of consecutive units, as the key of an encrypted blob, are stored once. */
class States {
  readonly pieces: Buffer[] = [];
  length = 0;
  #last: { readonly state: Buffer; readonly offset: number } = { state: Buffer.alloc(0), offset: 0 };

  /** Returns the offset of the state. */
  add(state: Buffer): number {
    if (state.equals(this.#last.state)) return this.#last.offset;
    this.#last = { state, offset: this.length };
    this.pieces.push(state);
    this.length += state.length;
    return this.#last.offset;
  }
}

/** The unit table of a device, read in place. */
export class UnitTable {
  readonly bytes: Buffer;
  /** By chunk: the index of its unit, or {@link NO_UNIT}. */
  readonly #units: Int32Array;
  readonly #stateStart: number;
  readonly #identities = new Map<number, string>();

  /**
   * `chunks`: number of chunks in the chunk table. FORMAT when the lengths of the parts do not add up, or when a member's
   * chunk does not exist. The native side checks all other fields before it serves anything.
   */
  constructor(bytes: Buffer, chunks: number, subject: string) {
    const bad = (problem: string, offset: number) => new FormatError('unit table', problem, { subject, offset });
    const [units, members, state] =
      bytes.length < HEADER_SIZE ? [0, 0, -1] : [0, 4, 8].map((at) => bytes.readUInt32LE(at));
    const memberStart = HEADER_SIZE + units! * UNIT_SIZE;
    this.#stateStart = memberStart + members! * MEMBER_SIZE;
    if (this.#stateStart + state! !== bytes.length) throw bad('the parts do not add up to the length of the table', 0);
    this.bytes = bytes;
    this.#units = new Int32Array(chunks).fill(NO_UNIT);
    let at = memberStart;
    for (let unit = 0; unit < units!; unit++) {
      const start = HEADER_SIZE + unit * UNIT_SIZE;
      const end = at + bytes.readUInt32LE(start + 28) * MEMBER_SIZE;
      if (end > this.#stateStart) throw bad(`unit ${unit} has more members than the table holds`, start + 28);
      for (; at < end; at += MEMBER_SIZE) {
        const chunk = bytes.readUInt32LE(at);
        if (chunk >= chunks) throw bad(`chunk ${chunk} does not exist`, at);
        this.#units[chunk] = unit;
      }
    }
  }

  /**
   * Identity of a chunk's unit, made of its place, sizes, decoder and state; null when the chunk is stored alone. Units of
   * equal identity decode to the same bytes, even when their devices' tables differ about these bytes.
   */
  identityOf(chunk: number): string | null {
    const unit = this.#units[chunk] ?? NO_UNIT;
    if (unit === NO_UNIT) return null;
    let identity = this.#identities.get(unit);
    if (identity === undefined) {
      const at = HEADER_SIZE + unit * UNIT_SIZE;
      const state = this.#stateStart + this.bytes.readUInt32LE(at + 20);
      identity = createHash('sha256')
        .update(this.bytes.subarray(at, at + UNIT_CORE))
        .update(this.bytes.subarray(state, state + this.bytes.readUInt32LE(at + 24)))
        .digest('hex');
      this.#identities.set(unit, identity);
    }
    return identity;
  }
}
