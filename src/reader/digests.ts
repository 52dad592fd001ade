/** Digests of an image's files, each made once however many names a file has. */
import type { FileNode } from '../tree/node.ts';
import type { OpenedImage } from './image.ts';

/** Files that are fetched and hashed at once. */
export const HASHED_AT_ONCE = 8;

/** Disposing of it ends what is still being read. */
export class Digests implements AsyncDisposable {
  readonly #image: OpenedImage;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #known = new Map<FileNode, Promise<string>>();

  constructor(image: OpenedImage, signal?: AbortSignal) {
    this.#image = image;
    this.#signal = signal === undefined ? this.#stop.signal : AbortSignal.any([signal, this.#stop.signal]);
  }

  /** Hex sha256 of a regular file's content. */
  of(node: FileNode): Promise<string> {
    const known = this.#known.get(node);
    if (known !== undefined) return known;
    const digest = this.#image.digest(node, { signal: this.#signal });
    // Whoever waits gets the error; nobody may be waiting any more.
    digest.catch(() => {});
    this.#known.set(node, digest);
    return digest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#known.values());
  }
}
