/** Units that chunks are cut out of: fetched and decoded once, the last ones kept while a file or its neighbours are read. */
import { type BlobSource, readRange } from '../blob/source.ts';
import type { Unit } from '../blob/table.ts';
import type { Codec } from '../native/codec.ts';

/** Plain bytes that are kept: the largest unit twice, hundreds of usual ones. */
const KEPT_BYTES = 64 * 1024 * 1024;

export class UnitCache {
  readonly #codec: Codec;
  /** From the one used longest ago to the last one. */
  readonly #units = new Map<Unit, Promise<Buffer>>();
  #bytes = 0;

  constructor(codec: Codec) {
    this.#codec = codec;
  }

  /** The plain bytes of a unit; nobody has verified them. */
  async get(unit: Unit, source: BlobSource, signal: AbortSignal): Promise<Buffer> {
    const kept = this.#units.get(unit);
    const plain = kept ?? this.#decode(unit, source, signal);
    this.#units.delete(unit);
    this.#units.set(unit, plain);
    if (kept === undefined) {
      this.#bytes += unit.size;
      for (const old of this.#units.keys()) {
        if (this.#bytes <= KEPT_BYTES || old === unit) break;
        this.#drop(old);
      }
    }
    try {
      return await plain;
    } catch (error) {
      // The next reader retries, and so does one that waited for another reader's aborted request.
      if (this.#units.get(unit) === plain) this.#drop(unit);
      if (kept !== undefined && !signal.aborted) return await this.get(unit, source, signal);
      throw error;
    }
  }

  async #decode(unit: Unit, source: BlobSource, signal: AbortSignal): Promise<Buffer> {
    const stored = await readRange(source, unit.compressedOffset, unit.compressedSize, signal);
    return await this.#codec.decodeUnit(stored, unit);
  }

  #drop(unit: Unit): void {
    if (this.#units.delete(unit)) this.#bytes -= unit.size;
  }
}
