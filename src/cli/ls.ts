/** `lacuna ls IMAGE [PATH]`. */
import { type Command, Option } from 'commander';
import type { Row } from '../inspect/entries.ts';
import { ls } from '../inspect/ls.ts';
import { printableJson } from '../printable.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { shown, shownTime, TYPE_LETTERS, write } from './output.ts';

interface Options {
  readonly recursive?: boolean;
  readonly ndjson?: boolean;
  readonly digest?: boolean;
  readonly long?: boolean;
}

export const command: CommandSpec = {
  name: 'ls',
  group: 'look',
  summary: 'list what is in an image, without mounting it',
  examples: ['lacuna ls oci:build:app /etc', 'lacuna ls --recursive --ndjson docker://registry.example/app:1-lazy'],
  configure(command: Command): void {
    withImage(command)
      .argument('[path]', 'a path in the image', '/')
      .option('-r, --recursive', 'also what is below')
      .option('-l, --long', 'add the layer that each path is from, where the image tells')
      .option('--digest', 'add the sha256 of every file (fetches its content)')
      .addOption(new Option('--ndjson', 'one JSON row per path, see docs/ls-format.md').conflicts('json'));
  },
  async run(context, args, options) {
    const { recursive = false, ndjson = false, digest = false, long = false } = options as Options;
    const rows = ls(args[0]!, {
      path: args[1] ?? '/',
      recursive,
      digests: digest,
      layers: long,
      ...(await openOptions(context, options)),
    });
    if (context.json) {
      const all: Row[] = [];
      for await (const row of rows) all.push(row);
      return { document: { schema: 'lacuna.ls.v1', rows: all }, text: '' };
    }
    for await (const row of rows) await write(`${ndjson ? printableJson(row) : line(row, long)}\n`);
    return null;
  },
};

/** For people: like `ls -l`, with absolute paths, times in UTC. */
function line(row: Row, long: boolean): string {
  const size = row.rdev === undefined ? String(row.size ?? 0) : `${row.rdev.major},${row.rdev.minor}`;
  const target = shown(row.target, row.target_b64);
  const columns = [
    TYPE_LETTERS[row.type] + row.mode,
    String(row.nlink).padStart(3),
    String(row.uid).padStart(5),
    String(row.gid).padStart(5),
    size.padStart(10),
    shownTime(row.mtime),
    ...(row.sha256 === undefined ? [] : [row.sha256]),
    ...(long
      ? [
          (row.layer ?? '-')
            .replace(/^sha256:/, '')
            .slice(0, 12)
            .padEnd(12),
        ]
      : []),
    shown(row.path, row.path_b64),
    ...(target === '' ? [] : ['->', target]),
  ];
  return columns.join(' ');
}
