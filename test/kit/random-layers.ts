/**
 * Random sets of layers, as tars and as steps for an independent program, and what they make together: a model of a few
 * lines beside the real thing. Every directory on the way has an entry, as builders write it; a whiteout hides something.
 */
import * as fc from 'fast-check';
import { END, member, pax } from './tar.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;

interface Fields {
  readonly mode: number;
  readonly uid: number;
  readonly sec: number;
  readonly xattr: number;
}

type Kind = 'file' | 'dir' | 'symlink' | 'fifo' | 'char' | 'hardlink' | 'whiteout' | 'opaque';

interface Op {
  readonly path: readonly string[];
  readonly kind: Kind;
  readonly fields: Fields;
  readonly pick: number;
}

/** One step of putting a layer into a directory of its own, for `apply-layer.py`. */
interface Step {
  readonly path: string;
  readonly kind: 'file' | 'dir' | 'symlink' | 'fifo' | 'char' | 'link' | 'whiteout' | 'opaque';
  readonly mode: number;
  readonly uid: number;
  readonly sec: number;
  readonly xattr: number;
  readonly data: string;
  readonly target: string;
}

export interface RandomLayers {
  /** Lowest first. */
  readonly tars: readonly Buffer[];
  readonly steps: ReadonlyArray<readonly Step[]>;
  /** Path → number of the inode, of everything but directories. */
  readonly inodes: ReadonlyMap<string, number>;
}

const fields: fc.Arbitrary<Fields> = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 70_000 }),
  sec: fc.integer({ min: 1, max: 2 ** 31 }),
  xattr: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 200 })),
});

const op: fc.Arbitrary<Op> = fc.record({
  path: fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 4 }),
  kind: fc.constantFrom<Kind>(
    'file',
    'file',
    'file',
    'dir',
    'dir',
    'symlink',
    'fifo',
    'char',
    'hardlink',
    'hardlink',
    'whiteout',
    'whiteout',
    'opaque',
  ),
  fields,
  pick: fc.nat(1000),
});

export const randomLayers = (): fc.Arbitrary<RandomLayers> =>
  fc.array(fc.tuple(fields, fc.array(op, { maxLength: 14 })), { minLength: 1, maxLength: 4 }).map((layers) => {
    const built = new Model().build(layers);
    // A failure shows what the layers do, not the bytes of tars.
    return Object.assign(built, { [fc.toStringMethod]: () => JSON.stringify(built.steps) });
  });

/** What a name is: a directory, or an inode with all that a later hard link needs of it. */
type Node = { readonly children: Map<string, Node> } | { readonly inode: number; readonly made: Omit<Step, 'path'> };

/** The directories that `path` lies in. */
const prefixesOf = (path: string): string[] =>
  path
    .split('/')
    .slice(0, -1)
    .map((_, i, names) => names.slice(0, i + 1).join('/'));

const isDirectory = (node: Node | undefined): node is { readonly children: Map<string, Node> } =>
  node !== undefined && 'children' in node;

class Model {
  readonly #root = { children: new Map<string, Node>() };
  #inodes = 0;

  build(layers: ReadonlyArray<readonly [Fields, readonly Op[]]>): RandomLayers {
    const built = layers.map(([root, ops]) => this.#layer(root, ops));
    const inodes = new Map<string, number>();
    this.#list(this.#root.children, '', inodes);
    return { tars: built.map(({ tar }) => tar), steps: built.map(({ steps }) => steps), inodes };
  }

  #layer(rootFields: Fields, ops: readonly Op[]): { tar: Buffer; steps: Step[] } {
    const parts: Buffer[] = [];
    const steps: Step[] = [];
    /** What this layer itself has put where. */
    const own = new Map<string, Kind>();
    /** The names that the layers below have, which hard links and whiteouts are about. */
    const below = this.#files();
    const directory = (path: string, made: Fields) => {
      own.set(path, 'dir');
      parts.push(...entry(path, '5', made));
      steps.push({ ...made, path, kind: 'dir', data: '', target: '' });
    };
    directory('', rootFields);
    for (const { path: names, kind, fields: made, pick } of ops) {
      const path = names.join('/');
      const parents = prefixesOf(path);
      if (own.has(path) || parents.some((parent) => own.has(parent) && own.get(parent) !== 'dir')) continue;
      const target = [...below.keys()].at(pick % Math.max(1, below.size));
      const hidden = this.#at(names);
      if (kind === 'whiteout' && (hidden === undefined || this.#isOpaque(own, parents))) continue;
      // What this layer has under the name of the target would be meant instead.
      const isTouched = (name: string) => own.has(name) && own.get(name) !== 'dir';
      // Nor is there a link to what becomes a directory on the way to it: no engine unpacks that.
      const isMeant = (name: string) => !own.has(name) && !parents.includes(name) && !prefixesOf(name).some(isTouched);
      if (kind === 'hardlink' && (target === undefined || !isMeant(target))) continue;
      for (const parent of parents) if (!own.has(parent)) directory(parent, { ...made, xattr: 0 });
      const parent = this.#parent(parents);
      const name = names.at(-1)!;
      const plain = { ...made, data: '', target: '' };
      if (kind === 'whiteout') {
        parent.delete(name);
        parts.push(...entry([...names.slice(0, -1), `.wh.${name}`].join('/'), '0', made));
        steps.push({ ...plain, path, kind });
      } else if (kind === 'dir' || kind === 'opaque') {
        directory(path, made);
        const before = parent.get(name);
        if (kind === 'opaque' || !isDirectory(before)) parent.set(name, { children: new Map() });
        if (kind === 'opaque') {
          parts.push(...entry(`${path}/.wh..wh..opq`, '0', made));
          steps.push({ ...plain, path, kind });
          own.set(`${path}/`, 'opaque');
        }
        continue;
      } else if (kind === 'hardlink') {
        const node = below.get(target!)!;
        parent.set(name, node);
        // Alone the layer does not have what the link is to, so there it is a copy, as overlayfs would make one.
        parts.push(...entry(path, '1', made, { link: target! }));
        steps.push({ ...node.made, path });
      } else {
        const node = { inode: ++this.#inodes, made: makeNode(kind, made, pick) };
        parent.set(name, node);
        parts.push(...entry(path, TYPEFLAGS[kind], made, { data: node.made.data, link: node.made.target }));
        steps.push({ ...node.made, path });
        if (kind === 'file' && pick % 4 === 0 && !own.has(`${path}2`)) {
          // A second name within the layer.
          parent.set(`${name}2`, node);
          own.set(`${path}2`, kind);
          parts.push(...entry(`${path}2`, '1', made, { link: path }));
          steps.push({ ...node.made, path: `${path}2`, kind: 'link', target: path });
        }
      }
      own.set(path, kind);
    }
    return { tar: Buffer.concat([...parts, END]), steps };
  }

  #isOpaque(own: ReadonlyMap<string, Kind>, parents: readonly string[]): boolean {
    return parents.some((parent) => own.has(`${parent}/`));
  }

  #at(names: readonly string[]): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of names) node = isDirectory(node) ? node.children.get(name) : undefined;
    return node;
  }

  /** The directory that the last of `parents` is, made on the way. */
  #parent(parents: readonly string[]): Map<string, Node> {
    let children = this.#root.children;
    for (const path of parents) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      let next = children.get(name);
      if (!isDirectory(next)) {
        next = { children: new Map() };
        children.set(name, next);
      }
      children = next.children;
    }
    return children;
  }

  /** Regular files by path. */
  #files(): Map<string, Extract<Node, { inode: number }>> {
    const found = new Map<string, Extract<Node, { inode: number }>>();
    const visit = (children: ReadonlyMap<string, Node>, prefix: string) => {
      for (const [name, node] of children) {
        if (isDirectory(node)) visit(node.children, `${prefix}${name}/`);
        else if ('inode' in node && node.made.kind === 'file') found.set(prefix + name, node);
      }
    };
    visit(this.#root.children, '');
    return found;
  }

  #list(children: ReadonlyMap<string, Node>, prefix: string, into: Map<string, number>): void {
    for (const [name, node] of children) {
      if (isDirectory(node)) this.#list(node.children, `${prefix}/${name}`, into);
      else if ('inode' in node) into.set(`${prefix}/${name}`, node.inode);
    }
  }
}

const TYPEFLAGS = { file: '0', symlink: '2', fifo: '6', char: '3' } as const;

function makeNode(kind: 'file' | 'symlink' | 'fifo' | 'char', made: Fields, pick: number): Omit<Step, 'path'> {
  const data = kind === 'file' ? `${pick} `.repeat(pick * 20) : '';
  const target = kind === 'symlink' ? `../${NAMES[pick % NAMES.length]!}` : '';
  // Linux has user attributes on files and directories only.
  return { ...made, xattr: kind === 'file' ? made.xattr : 0, kind, data, target };
}

/** A member, with its attribute in a pax header. Names of this kit fit into a header. */
function entry(path: string, type: string, made: Fields, more: { data?: string; link?: string } = {}): Buffer[] {
  const raw: Array<readonly [number, string]> = [
    [108, `${made.uid.toString(8).padStart(7, '0')}\0`],
    [116, `${made.uid.toString(8).padStart(7, '0')}\0`],
    [136, `${made.sec.toString(8).padStart(11, '0')}\0`],
  ];
  if (type === '3') raw.push([329, '0000001\0'], [337, '0000003\0']);
  const name = type === '5' ? `./${path}/` : path;
  const header = member({ name, type, mode: made.mode, raw, ...more });
  const hasXattr = made.xattr > 0 && (type === '0' || type === '5');
  return hasXattr ? [pax({ 'SCHILY.xattr.user.x': 'x'.repeat(made.xattr) }), header] : [header];
}
