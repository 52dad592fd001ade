/** `lacuna ls IMAGE [PATH]`. */
import { once } from 'node:events';
import { type Command, Option } from 'commander';
import { ls } from '../reader/ls.ts';
import type { Row } from '../reader/rows.ts';
import { storeOptions, withRegistryOptions } from './registry-options.ts';
import type { Verb } from './verb.ts';

interface Options {
  readonly recursive?: boolean;
  readonly ndjson?: boolean;
  readonly digest?: boolean;
  readonly platform?: string;
}

export const verb: Verb = {
  name: 'ls',
  summary: 'list what is in an image, without mounting it',
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<image>', 'docker://HOST/NAME:TAG, oci:DIR:REF, rafs:BOOTSTRAP[,blobs=DIR], or a bare name')
      .argument('[path]', 'a path in the image', '/')
      .option('-r, --recursive', 'also what is below')
      .option('--digest', 'add the sha256 of every file (fetches its content)')
      .option('--platform <os/arch>', 'which one of a multi-platform image')
      .addOption(new Option('--ndjson', 'one JSON row per path, see docs/ls-format.md').conflicts('json'));
  },
  async run(context, args, options) {
    const { recursive = false, ndjson = false, digest = false, platform } = options as Options;
    const rows = ls(args[0]!, {
      path: args[1] ?? '/',
      recursive,
      digests: digest,
      store: await storeOptions(context, options),
      signal: context.signal,
      ...(platform === undefined ? {} : { platform }),
    });
    if (context.json) {
      const all: Row[] = [];
      for await (const row of rows) all.push(row);
      return { document: { schema: 'lacuna.ls.v1', rows: all }, text: '' };
    }
    for await (const row of rows) await print(ndjson ? JSON.stringify(row) : line(row));
    return null;
  },
};

async function print(text: string): Promise<void> {
  if (!process.stdout.write(`${text}\n`)) await once(process.stdout, 'drain');
}

const LETTERS: Readonly<Record<Row['type'], string>> = {
  reg: '-',
  dir: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
  socket: 's',
};

/** For people: like `ls -l`, with absolute paths, times in UTC. */
function line(row: Row): string {
  const size = row.rdev === undefined ? String(row.size ?? 0) : `${row.rdev.major},${row.rdev.minor}`;
  const time = new Date(row.mtime.sec * 1000);
  const when = Number.isNaN(time.getTime()) ? String(row.mtime.sec) : `${time.toISOString().slice(0, 19)}Z`;
  const target = shown(row.target, row.target_b64);
  const columns = [
    LETTERS[row.type] + row.mode,
    String(row.nlink).padStart(3),
    String(row.uid).padStart(5),
    String(row.gid).padStart(5),
    size.padStart(10),
    when,
    ...(row.sha256 === undefined ? [] : [row.sha256]),
    shown(row.path, row.path_b64),
    ...(target === '' ? [] : ['->', target]),
  ];
  return columns.join(' ');
}

/** A name on a terminal: control characters escaped, bytes that are no text as U+FFFD. */
function shown(text: string | undefined, base64: string | undefined): string {
  const name = text ?? (base64 === undefined ? '' : Buffer.from(base64, 'base64').toString('utf8'));
  return /\p{Cc}/u.test(name) ? JSON.stringify(name) : name;
}
