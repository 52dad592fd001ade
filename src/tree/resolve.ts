/** Resolves paths in a tree as the kernel does after chroot(2): symlinks stay inside the root. */
import { FormatError } from '../errors.ts';
import type { ByteString, FileNode } from './node.ts';
import { quote } from './path.ts';

/** Maximum number of symlinks in one walk, as in Linux; more are a loop. */
const MAX_LINKS = 40;

/**
 * Maximum components of the targets of all symlinks that are followed while the layers of an image are merged; they take
 * some seconds. One path can lead through 40 links of 2000 components each, and an image can have millions of paths.
 */
export const MAX_LINK_COMPONENTS = 32 * 1024 * 1024;

/** The budget that all walks through one image share. */
export class LinkBudget {
  #left = MAX_LINK_COMPONENTS;

  spend(components: number, subject: string): void {
    this.#left -= components;
    if (this.#left >= 0) return;
    const problem = `paths lead through symlinks of more than ${MAX_LINK_COMPONENTS} components`;
    throw new FormatError('layer', problem, { subject });
  }
}

/** The components of a path; none for the root. */
export const componentsOf = (path: ByteString): ByteString[] => (path === '' ? [] : path.split('/'));

/** Makes the missing directory `name` in `parent`, or returns null to give up. */
export type MakeDirectory = (parent: FileNode, name: ByteString) => FileNode | null;

const GIVE_UP: MakeDirectory = () => null;

/** One name of a resolved path, and its node. */
interface Step {
  readonly name: ByteString;
  readonly node: FileNode;
}

/** Type of the last component: a directory (made when missing), any node, or any node after following symlinks. */
type Last = 'directory' | 'anything' | 'followed';

/** The resolved names from the root to the end of `components`; null when `make` returns null or a component is a file. */
function walk(
  root: FileNode,
  components: readonly ByteString[],
  last: Last,
  make: MakeDirectory,
  subject: string,
  budget = new LinkBudget(),
): Step[] | null {
  const trail: Step[] = [];
  const todo = [...components].reverse();
  let links = 0;
  while (todo.length > 0) {
    const name = todo.pop()!;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      // The root's parent is the root.
      trail.pop();
      continue;
    }
    const here = trail.at(-1)?.node ?? root;
    const found = here.children?.get(name) ?? null;
    const isLast = todo.length === 0 && last !== 'directory';
    if (found?.type === 'symlink' && !(isLast && last === 'anything')) {
      if (++links > MAX_LINKS) {
        throw new FormatError('path', `${quote(components.join('/'))} leads through a loop of symlinks`, { subject });
      }
      const target = found.target!;
      if (target.startsWith('/')) trail.length = 0;
      const parts = target.split('/');
      budget.spend(parts.length, subject);
      todo.push(...parts.reverse());
      continue;
    }
    const node = found !== null && (found.type === 'dir' || isLast) ? found : make(here, name);
    if (node === null) return null;
    trail.push({ name, node });
  }
  return trail;
}

/**
 * The directory at `components` below `root`. `make` replaces components that are missing or not a directory. Null when it
 * returns null. Throws FormatError on a loop of symlinks.
 */
export function resolveDirectory(
  root: FileNode,
  components: readonly ByteString[],
  make: MakeDirectory,
  subject: string,
  budget?: LinkBudget,
): FileNode | null {
  const trail = walk(root, components, 'directory', make, subject, budget);
  return trail === null ? null : (trail.at(-1)?.node ?? root);
}

/** The node at `path`, symlinks followed except in the last component; null when there is none. */
export function lookup(root: FileNode, path: ByteString, subject: string, budget?: LinkBudget): FileNode | null {
  const trail = walk(root, componentsOf(path), 'anything', GIVE_UP, subject, budget);
  return trail === null ? null : (trail.at(-1)?.node ?? root);
}

/**
 * The real absolute path and node of a user's `path`, with symlinks followed; `follow`: whether the last component is
 * followed too. Null when the path does not exist.
 */
export function resolvePath(
  root: FileNode,
  path: ByteString,
  follow: boolean,
  subject: string,
): { path: ByteString; node: FileNode } | null {
  const trail = walk(root, path.split('/'), follow ? 'followed' : 'anything', GIVE_UP, subject);
  if (trail === null) return null;
  return { path: `/${trail.map(({ name }) => name).join('/')}`, node: trail.at(-1)?.node ?? root };
}
