/**
 * Memory limit of the trees of an image's layers. A few kilobytes can describe millions of files, and one path may name
 * thousands of directories, so the compressed size is not a bound.
 */
import { FormatError } from '../errors.ts';
import { LinkBudget } from './resolve.ts';
import type { TarEntry } from './tar.ts';

/** Maximum estimated memory in bytes: about three million files. */
export const MAX_TREE_MEMORY = 768 * 1024 * 1024;

/** Bytes that V8 needs for a node, a directory and an extended attribute, without the lengths of their strings. */
const NODE = 256;
const DIRECTORY = 640;
const XATTR = 256;

/** The budget that all layers of one image share. */
export class TreeBudget {
  readonly links = new LinkBudget();
  #left = MAX_TREE_MEMORY;

  /** Charges an entry, even if the layer drops it later. Throws FormatError beyond the limit. */
  entry(
    { type, name, linkName, xattrs }: Pick<TarEntry, 'type' | 'name' | 'linkName' | 'xattrs'>,
    subject: string,
  ): void {
    let cost = (type === 'dir' ? DIRECTORY : NODE) + name.length + (linkName?.length ?? 0);
    for (const [key, value] of xattrs ?? []) cost += XATTR + key.length + value.length;
    this.#spend(cost, subject);
  }

  /** Charges a directory that has no entry of its own. */
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
