/**
 * What the trees of an image's layers may cost in memory. A few kilobytes can describe millions of files, and one path may
 * name thousands of directories, so the compressed size bounds nothing.
 */
import { FormatError } from '../errors.ts';
import { LinkBudget } from './resolve.ts';
import type { TarEntry } from './tar.ts';

/** Bytes of memory, as estimated: some three million files. */
export const MAX_TREE_MEMORY = 768 * 1024 * 1024;

/** Bytes that V8 takes for a node with its name, and for one that can have others in it. Lengths of texts come on top. */
const NODE = 256;
const DIRECTORY = 640;
const XATTR = 256;

/** Shared by all layers of one image. */
export class TreeBudget {
  readonly links = new LinkBudget();
  #left = MAX_TREE_MEMORY;

  /** Pays for an entry, whatever becomes of it. FORMAT when too many came before. */
  entry(
    { type, name, linkName, xattrs }: Pick<TarEntry, 'type' | 'name' | 'linkName' | 'xattrs'>,
    subject: string,
  ): void {
    let cost = (type === 'dir' ? DIRECTORY : NODE) + name.length + (linkName?.length ?? 0);
    for (const [key, value] of xattrs ?? []) cost += XATTR + key.length + value.length;
    this.#spend(cost, subject);
  }

  /** Pays for a directory that only a path names. */
  directory(subject: string): void {
    this.#spend(DIRECTORY, subject);
  }

  #spend(cost: number, subject: string): void {
    this.#left -= cost;
    if (this.#left >= 0) return;
    const problem = `the files of the image's layers need more than ${MAX_TREE_MEMORY} bytes of memory`;
    throw new FormatError('layer', problem, { subject });
  }
}
