/** File content in blocks, the least recently read ones forgotten: a reader comes back for the next piece of a block. */
import type { OpenedImage } from '../../reader/image.ts';
import type { FileNode } from '../../tree/node.ts';

/** Bytes that are kept, about. */
const CAPACITY = 64 * 1024 * 1024;
/** A block is a chunk, or this much of the small ones: fetched and decoded in one piece. */
const LEAST_BLOCK = 1024 * 1024;

type Source = Pick<OpenedImage, 'read' | 'rafs'>;

export class BlockCache {
  readonly #image: Source;
  readonly #blockSize: number;
  /** Oldest first. A block that several wait for is fetched once. */
  readonly #blocks = new Map<string, { readonly size: number; readonly bytes: Promise<Buffer> }>();
  readonly #numbers = new WeakMap<FileNode, number>();
  #files = 0;
  #kept = 0;

  constructor(image: Source) {
    this.#image = image;
    this.#blockSize = Math.max(LEAST_BLOCK, image.rafs?.superblock.chunkSize ?? 0);
  }

  /** Fills `target` from `offset` of the file; resolves with the bytes written, fewer only at its end. */
  async read(node: FileNode, target: Buffer, offset: number): Promise<number> {
    const end = Math.min(offset + target.length, node.size);
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / this.#blockSize);
      const within = at - index * this.#blockSize;
      const block = await this.#block(node, index);
      at += block.copy(target, at - offset, within, within + end - at);
    }
    return Math.max(0, end - offset);
  }

  #block(node: FileNode, index: number): Promise<Buffer> {
    const key = `${this.#numberOf(node)}/${index}`;
    const cached = this.#blocks.get(key);
    if (cached !== undefined) {
      this.#blocks.delete(key);
      this.#blocks.set(key, cached);
      return cached.bytes;
    }
    const offset = index * this.#blockSize;
    const size = Math.min(this.#blockSize, node.size - offset);
    const block = { size, bytes: this.#fetch(node, offset, size) };
    this.#blocks.set(key, block);
    this.#kept += size;
    // The next reader retries.
    block.bytes.catch(() => this.#forget(key));
    for (const oldest of this.#blocks.keys()) {
      if (this.#kept <= CAPACITY || oldest === key) break;
      this.#forget(oldest);
    }
    return block.bytes;
  }

  #forget(key: string): void {
    this.#kept -= this.#blocks.get(key)?.size ?? 0;
    this.#blocks.delete(key);
  }

  async #fetch(node: FileNode, offset: number, length: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.#image.read(node, { offset, length })) pieces.push(piece);
    return Buffer.concat(pieces, length);
  }

  #numberOf(node: FileNode): number {
    const number = this.#numbers.get(node) ?? ++this.#files;
    this.#numbers.set(node, number);
    return number;
  }
}
