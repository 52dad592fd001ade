/** Walking a tree by path the way a kernel confined to it would: symlinks in the middle are followed inside the root. */
import { FormatError } from '../errors.ts';
import type { ByteString, FileNode } from './node.ts';
import { quote } from './path.ts';

/** As in Linux: more symlinks than this in one walk are a loop. */
const MAX_LINKS = 40;

/** The components of a path; none for the root. */
export const componentsOf = (path: ByteString): ByteString[] => (path === '' ? [] : path.split('/'));

/** Makes the missing directory `name` in `parent`, or returns null to give up. */
export type MakeDirectory = (parent: FileNode, name: ByteString, found: FileNode | null) => FileNode | null;

/**
 * The directory that `components` lead to from `root`. Where one is missing or is no directory, `make` decides;
 * null when it gives up. Throws FormatError on a loop of symlinks.
 */
export function resolveDirectory(
  root: FileNode,
  components: readonly ByteString[],
  make: MakeDirectory,
  subject: string,
): FileNode | null {
  // The directories entered so far; the last is where we are. `..` of a symlink's target pops, but never the root.
  const trail: FileNode[] = [root];
  const todo = [...components].reverse();
  let links = 0;
  while (todo.length > 0) {
    const name = todo.pop()!;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const here = trail[trail.length - 1]!;
    const found = here.children!.get(name) ?? null;
    if (found?.type === 'symlink') {
      if (++links > MAX_LINKS) {
        throw new FormatError('path', `${quote(components.join('/'))} goes through a loop of symlinks`, { subject });
      }
      const target = found.target!;
      if (target.startsWith('/')) trail.length = 1;
      todo.push(...target.split('/').reverse());
      continue;
    }
    const next = found?.type === 'dir' ? found : make(here, name, found);
    if (next === null) return null;
    trail.push(next);
  }
  return trail[trail.length - 1]!;
}

/** The node at `path`, symlinks followed except in the last component; null when there is none. */
export function lookup(root: FileNode, path: ByteString, subject: string): FileNode | null {
  const components = componentsOf(path);
  const name = components.pop();
  if (name === undefined) return root;
  const parent = resolveDirectory(root, components, () => null, subject);
  return parent?.children?.get(name) ?? null;
}
