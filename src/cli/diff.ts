/** `lacuna diff A B`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Difference, diff, type FieldChange, IGNORABLE, type Ignorable } from '../inspect/diff.ts';
import { type ConfigChange, diffConfig } from '../inspect/diff-config.ts';
import { printableJson } from '../printable.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { shown, shownTime, write } from './output.ts';

/** As diff(1) has it. */
const EXIT_DIFFERENT = 1;

interface Options {
  readonly ignore?: readonly Ignorable[];
  readonly config?: boolean;
  readonly summary?: boolean;
  readonly ndjson?: boolean;
}

export const command: CommandSpec = {
  name: 'diff',
  group: 'look',
  summary: 'compare two images: files, attributes, content; exit code 0 when equal, 1 when not',
  examples: [
    'lacuna diff oci:build:app oci:build:app-lazy --ignore mtime',
    'lacuna diff registry.example/app:1 registry.example/app:2 --config --summary',
  ],
  configure(command: Command): void {
    withImage(command, ['a', 'b'])
      .option('--ignore <what>', `leave out, separated by commas: ${IGNORABLE.join(', ')}`, parseIgnored)
      .option('--config', 'compare configs, annotations and layers as well')
      .option('--summary', 'only how many paths differ')
      .addOption(new Option('--ndjson', 'one JSON row per path that differs').conflicts(['json', 'summary']))
      .addHelpText('after', '\nExit code: 0 when nothing differs, 1 when something does, 2 and more for failures.');
  },
  async run(context, [a, b], raw) {
    const { ignore = [], config = false, summary = false, ndjson = false } = raw as Options;
    const options = await openOptions(context, raw, [a!, b!]);
    const changes = config ? await diffConfig(a!, b!, options) : [];
    const differences: Difference[] = [];
    const counts = { added: 0, removed: 0, changed: 0 };
    if (!context.json && !summary) {
      for (const change of changes) await write(`${ndjson ? printableJson(change) : configLine(change)}\n`);
    }
    for await (const difference of diff(a!, b!, { ...options, ignore })) {
      counts[difference.kind]++;
      if (summary) continue;
      if (context.json) differences.push(difference);
      else await write(`${ndjson ? printableJson(difference) : line(difference)}\n`);
    }
    const equal = changes.length + counts.added + counts.removed + counts.changed === 0;
    const text = `${counts.added} added, ${counts.removed} removed, ${counts.changed} changed`;
    return {
      document: {
        schema: 'lacuna.diff.v1',
        a,
        b,
        equal,
        summary: counts,
        ...(config ? { config: changes } : {}),
        ...(summary ? {} : { differences }),
      },
      text: summary ? (config ? `${text}; ${changes.length} differences of config, annotations and layers` : text) : '',
      exitCode: equal ? 0 : EXIT_DIFFERENT,
    };
  },
};

export function parseIgnored(text: string): Ignorable[] {
  return text.split(',').map((name) => {
    const found = IGNORABLE.find((known) => known === name);
    if (found === undefined)
      throw new InvalidArgumentError(`${JSON.stringify(name)} must be one of ${IGNORABLE.join(', ')}.`);
    return found;
  });
}

const MARKS: Readonly<Record<Difference['kind'], string>> = { added: '+', removed: '-', changed: '~' };

function line({ kind, path, path_b64, changes }: Difference): string {
  const fields = changes.map(({ field, from, to }) => `${field} ${shownValue(field, from)} → ${shownValue(field, to)}`);
  return `${MARKS[kind]} ${shown(path, path_b64)}${fields.length === 0 ? '' : `: ${fields.join(', ')}`}`;
}

function shownValue(field: FieldChange['field'], value: unknown): string {
  if (field === 'content') return typeof value === 'string' ? value.slice(0, 12) : '?';
  if (field === 'mtime') return shownTime(value as { sec: number; nsec: number }, true);
  return typeof value === 'string' ? shown(value) : printableJson(value);
}

const configLine = ({ path, from, to }: ConfigChange): string =>
  `~ ${shown(path.join('.'))}: ${printableJson(from)} → ${printableJson(to)}`;
