/** A file written from its start to its end whose zeros become holes. */
import type { FileHandle } from 'node:fs/promises';

/** Bytes that are gathered before they are written. */
const BUFFER_SIZE = 1024 * 1024;
/** Unit of holes: a block of most file systems, and of EROFS. */
const GRAIN = 4096;
const ZEROS = Buffer.alloc(GRAIN);

export class SparseFile {
  readonly #handle: FileHandle;
  readonly #buffer = Buffer.alloc(BUFFER_SIZE);
  #used = 0;
  /** Where the buffer belongs; a multiple of its size. */
  #offset = 0;

  /** `handle`: a new, empty file; it stays the caller's. */
  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; ) {
      const taken = data.copy(this.#buffer, this.#used, at);
      at += taken;
      await this.#advance(taken);
    }
  }

  /** `length` zeros. */
  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      const taken = Math.min(left, BUFFER_SIZE - this.#used);
      this.#buffer.fill(0, this.#used, this.#used + taken);
      left -= taken;
      await this.#advance(taken);
    }
  }

  /** Writes what is left and gives the file its length, also behind a hole. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#handle.truncate(this.#offset);
  }

  async #advance(length: number): Promise<void> {
    this.#used += length;
    if (this.#used === BUFFER_SIZE) await this.#flush();
  }

  async #flush(): Promise<void> {
    let start = 0;
    for (let at = 0; at < this.#used; at += GRAIN) {
      const end = Math.min(at + GRAIN, this.#used);
      if (!this.#buffer.subarray(at, end).equals(ZEROS.subarray(0, end - at))) continue;
      await this.#writeRun(start, at);
      start = end;
    }
    await this.#writeRun(start, this.#used);
    this.#offset += this.#used;
    this.#used = 0;
  }

  async #writeRun(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const { bytesWritten } = await this.#handle.write(this.#buffer, at, end - at, this.#offset + at);
      at += bytesWritten;
    }
  }
}
