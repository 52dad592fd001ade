/** `lacuna find IMAGE [PATH]`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseSize, SIZE_FORMS } from '../config/units.ts';
import type { Row } from '../inspect/entries.ts';
import { type FindQuery, findListed, type Permissions } from '../inspect/find.ts';
import { printable, printableJson, printableName } from '../printable.ts';
import { type ByteString, bytesOf, type Mtime, type NodeType } from '../tree/node.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { textOf, write } from './output.ts';

interface Options extends Omit<FindQuery, 'wholePath' | 'types'> {
  readonly path?: string;
  readonly type?: readonly NodeType[];
  readonly ndjson?: boolean;
  readonly print0?: boolean;
}

export const command: CommandSpec = {
  name: 'find',
  group: 'look',
  summary: 'list the paths of an image that match, without mounting it',
  examples: [
    "lacuna find docker://registry.example/app:1-lazy --type f --name '*.so'",
    'lacuna find oci:build:app /usr --size +1MiB --perm /6000',
  ],
  configure(command: Command): void {
    withImage(command)
      .argument('[path]', 'where to search', '/')
      .option('--name <glob>', 'last component: *, ? and […], as in find -name')
      .option('--path <glob>', 'whole path; * matches slashes too')
      .option('--type <letters>', 'any of f,d,l,b,c,p,s', parseTypes)
      .option('--size <n>', 'bytes of a file, also 4k, 4KiB, 2MB: N exactly, +N more, -N less', parseSizeRange)
      .option(
        '--newer <time>',
        'modified after 2026-01-31[T12:00:00Z], @SECONDS, or the mtime of /PATH in the image',
        parseNewer,
      )
      .option('--perm <mode>', 'octal: MODE exactly, -MODE all of its bits, /MODE any', parsePermissions)
      .option('--uid <n>', 'owner', parseCount)
      .option('--gid <n>', 'group', parseCount)
      .option('--xattr <glob>', 'has an extended attribute of this name')
      .option('--blob <id>', 'has content in this blob (beginning of its id)')
      .option('--empty', 'files without content, directories without entries')
      .option('--max-depth <n>', 'levels below the path', parseCount)
      .addOption(new Option('--print0', 'end each path with a NUL, and escape nothing').conflicts(['json', 'ndjson']))
      .addOption(new Option('--ndjson', 'one JSON row per path, see docs/ls-format.md').conflicts('json'));
  },
  async run(context, [image, path], raw) {
    const { path: wholePath, type: types, ndjson = false, print0 = false, ...rest } = raw as Options;
    const query = {
      ...pick(rest, ['name', 'size', 'newer', 'perm', 'uid', 'gid', 'xattr', 'blob', 'empty', 'maxDepth']),
      ...(wholePath === undefined ? {} : { wholePath }),
      ...(types === undefined ? {} : { types }),
    };
    const found = findListed(image!, { path: path!, ...query, ...(await openOptions(context, raw)) });
    if (context.json) {
      const rows: Row[] = [];
      for await (const { row } of found) rows.push(row);
      return { document: { schema: 'lacuna.find.v1', rows }, text: '' };
    }
    for await (const { path: here, row } of found) {
      if (ndjson) await write(`${printableJson(row)}\n`);
      // A program gets the bytes as they are.
      else if (print0) await write(bytesOf(`${here}\0`));
      else await write(lineOf(here, row));
    }
    return null;
  },
};

/** A name is printed as it is, unless stdout is a terminal or the name has control characters. */
function lineOf(path: ByteString, row: Row): string | Buffer {
  const name = textOf(row.path, row.path_b64);
  return process.stdout.isTTY || printable(name) !== name ? `${printableName(name)}\n` : bytesOf(`${path}\n`);
}

function pick<T extends object, K extends keyof T>(from: T, keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]])) as Pick<T, K>;
}

const TYPES: Readonly<Record<string, NodeType>> = {
  f: 'reg',
  d: 'dir',
  l: 'symlink',
  b: 'block',
  c: 'char',
  p: 'fifo',
  s: 'socket',
};

export function parseTypes(text: string): NodeType[] {
  return text.split(',').map((letter) => {
    const type = Object.hasOwn(TYPES, letter) ? TYPES[letter] : undefined;
    if (type === undefined)
      throw new InvalidArgumentError(`${JSON.stringify(letter)} must be one of f, d, l, b, c, p, s.`);
    return type;
  });
}

export function parseSizeRange(text: string): NonNullable<FindQuery['size']> {
  const sign = /^[+-]?/.exec(text)![0];
  const size = parseSize(text.slice(sign.length));
  if (size === null) throw new InvalidArgumentError(`Sizes are written as N, +N or -N, where N is ${SIZE_FORMS}.`);
  if (sign === '') return { min: size, max: size };
  return sign === '+' ? { min: size + 1 } : { max: size - 1 };
}

export function parseNewer(text: string): Mtime | string {
  if (text.startsWith('/')) return text;
  const seconds = /^@(-?\d{1,15})(?:\.(\d{1,9}))?$/.exec(text);
  if (seconds !== null) return { sec: Number(seconds[1]), nsec: Number((seconds[2] ?? '').padEnd(9, '0')) };
  // A date without a zone would depend on the caller's time zone.
  const time = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (Number.isNaN(time)) {
    throw new InvalidArgumentError('Times are written as 2026-01-31, 2026-01-31T12:00:00Z or @SECONDS.');
  }
  return { sec: Math.floor(time / 1000), nsec: 0 };
}

export function parsePermissions(text: string): Permissions {
  const match = /^([-/]?)([0-7]{1,4})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Permissions are octal: 644, -4000 or /222.');
  const how = { '': 'exactly', '-': 'all', '/': 'any' } as const;
  return { match: how[match[1] as '' | '-' | '/'], mode: Number.parseInt(match[2]!, 8) };
}

function parseCount(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError('Not a number.');
  return Number(text);
}
