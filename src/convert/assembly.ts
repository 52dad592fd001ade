/** The chunks of sparse files, whose content does not lie in the tar as it is: they are put together in slots of their own. */
import { LacunaError } from '../errors.ts';
import type { LayerFile } from '../tree/file.ts';
import { display } from '../tree/node.ts';
import type { TarEntry } from '../tree/tar.ts';
import type { Piece, Ring, Slot } from './ring.ts';

/** Chunks of all sparse files of a layer, the holes' too: each is an index of eight bytes in the bootstrap. */
export const MAX_SPARSE_CHUNKS = 2 ** 24;

/** Takes a batch of chunks that are in no tar. */
export type TakeMade = (slot: Slot, pieces: readonly Piece[]) => void;

export class Assembly {
  readonly #chunkSize: number;
  readonly #subject: string;
  #slot: Slot | null = null;
  /** Bytes of the slot in whole chunks, and the bytes of the partial chunk after them. */
  #used = 0;
  #filled = 0;
  #pieces: Piece[] = [];
  #chunks = 0;
  #wantsRoom = false;

  /** `subject` names the layer. */
  constructor(chunkSize: number, subject: string) {
    this.#chunkSize = chunkSize;
    this.#subject = subject;
  }

  /** Whether the slot is full: {@link renew} takes a new one. */
  get wantsRoom(): boolean {
    return this.#wantsRoom;
  }

  /** Begins a file. UNSUPPORTED when the sparse files of the layer have too many chunks. */
  begin({ name, size }: TarEntry): void {
    this.#chunks += Math.ceil(size / this.#chunkSize);
    if (this.#chunks <= MAX_SPARSE_CHUNKS) return;
    const what = `${JSON.stringify(display(name))}, a sparse file of ${size} bytes, has too many chunks`;
    throw new LacunaError('UNSUPPORTED', what, {
      op: 'convert',
      subject: this.#subject,
      hint: 'convert with a larger --chunk-size',
    });
  }

  /** Takes bytes of the current chunk; of `remaining` to come in the file `length` are at `start`. Gives how many. */
  data(node: LayerFile, buffer: Buffer, start: number, length: number, remaining: number): number {
    return this.#fill(node, length, remaining, (into, at, end) => buffer.copy(into, at, start, start + end - at));
  }

  /** Takes zeros: whole chunks of zeros become one repeated chunk. */
  hole(node: LayerFile, length: number, remaining: number): number {
    const count = this.#filled === 0 ? Math.floor(length / this.#chunkSize) : 0;
    if (count <= 1) return this.#fill(node, length, remaining, (into, at, end) => into.fill(0, at, end));
    const zeros = this.#fill(node, this.#chunkSize, remaining, (into, at, end) => into.fill(0, at, end));
    if (zeros === 0) return 0;
    this.#pieces.push({ ...this.#pieces.pop()!, count });
    return count * this.#chunkSize;
  }

  /** Hands over the slot and takes a new one. */
  async renew(ring: Ring, take: TakeMade): Promise<void> {
    this.finish(ring, take);
    this.#slot = await ring.take();
    this.#wantsRoom = false;
  }

  /** Hands over the slot. */
  finish(ring: Ring, take: TakeMade): void {
    const slot = this.#slot;
    const pieces = this.#pieces;
    this.#slot = null;
    this.#pieces = [];
    this.#used = 0;
    if (slot === null) return;
    if (pieces.length === 0) ring.give(slot);
    else take(slot, pieces);
  }

  #fill(
    node: LayerFile,
    length: number,
    remaining: number,
    write: (into: Buffer, at: number, end: number) => void,
  ): number {
    const slot = this.#slot;
    const size = Math.min(this.#chunkSize, this.#filled + remaining);
    if (slot === null || this.#used + size > slot.input.length) {
      this.#wantsRoom = true;
      return 0;
    }
    const at = this.#used + this.#filled;
    const taken = Math.min(length, size - this.#filled);
    write(slot.input, at, at + taken);
    this.#filled += taken;
    if (this.#filled < size) return taken;
    this.#pieces.push({ node, offset: this.#used, length: size, count: 1 });
    this.#used += size;
    this.#filled = 0;
    return taken;
  }
}
