/** `lacuna dict add|stat|prune DB`: the database of `convert --dict sqlite:DB`. */
import { Argument, type Command } from 'commander';
import { dictAdd, dictPrune, dictStat } from '../dict/manage.ts';
import { databaseOf } from '../dict/open.ts';
import { LacunaError } from '../errors.ts';
import { alignColumns, humanBytes } from '../observe/human.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';
import { imageArguments } from './image-argument.ts';
import { openOptions, withImage } from './image-options.ts';

const ACTIONS = ['add', 'stat', 'prune'] as const;
type Action = (typeof ACTIONS)[number];

export const command: CommandSpec = {
  name: 'dict',
  group: 'build',
  summary: 'maintain a chunk dictionary: add images, show its size, remove blobs that are gone',
  examples: [
    'lacuna dict add chunks.db docker://registry.example/base:1-lazy',
    'lacuna dict stat chunks.db',
    'lacuna dict prune chunks.db  # remove blobs that are gone',
  ],
  configure(command: Command): void {
    withImage(command, [])
      .addArgument(
        new Argument(
          '<action>',
          'add: add images; stat: show counts; prune: remove blobs that no place has any more',
        ).choices(ACTIONS),
      )
      .argument('<database>', 'FILE, or sqlite:FILE as in convert --dict')
      .argument('[image...]', 'lazy images to add', imageArguments);
  },
  async run(context, args, options) {
    const [what, spec, ...images] = args as [Action, string, ...string[]];
    const path = databaseOf(spec) ?? spec;
    if ((what === 'add') !== images.length > 0) {
      const problem = what === 'add' ? 'no image is named' : 'only `add` takes images';
      throw new LacunaError('USAGE', problem, { op: 'dict', hint: 'lacuna dict add FILE IMAGE…' });
    }
    return await RUN[what](path, images, context, options);
  },
};

type Run = (
  path: string,
  images: readonly string[],
  context: CliContext,
  options: Record<string, unknown>,
) => Promise<CommandResult>;

const RUN: Readonly<Record<Action, Run>> = {
  async add(path, images, context, options) {
    const growth = await dictAdd(path, images, await openOptions(context, options, images));
    const { blobs, chunks, places } = growth;
    const text = `added ${count(blobs, 'blob')}, ${count(chunks, 'chunk')}, ${count(places, 'place')}`;
    return { document: { schema: 'lacuna.dict-add.v1', database: path, ...growth }, text };
  },
  async stat(path) {
    const found = await dictStat(path);
    const { blobs, chunks, blobBytes, chunkBytes, places } = found;
    const lines = [
      `${count(blobs, 'blob')} of ${humanBytes(blobBytes)}, ${count(chunks, 'chunk')} of ${humanBytes(chunkBytes)} plain`,
      ...alignColumns(places.map((row) => [row.place, count(row.blobs, 'blob')])),
    ];
    return { document: { schema: 'lacuna.dict-stat.v1', database: path, ...found }, text: lines.join('\n') };
  },
  async prune(path, _, context, options) {
    const pruned = await dictPrune(path, await openOptions(context, options));
    const { places, blobs, unreachable } = pruned;
    const lines = [
      `removed ${count(blobs, 'blob')} that no place has, and ${count(places, 'place')} of blobs`,
      ...unreachable.map((place) => `${place}: unreachable, kept as it is`),
    ];
    return { document: { schema: 'lacuna.dict-prune.v1', database: path, ...pruned }, text: lines.join('\n') };
  },
};

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
