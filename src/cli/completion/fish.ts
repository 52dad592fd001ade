/** Completion for fish: `lacuna completion fish | source`. */
import { type CompletedCommand, type CompletedOption, TRANSPORTS, type Value } from './model.ts';

const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** Images begin with a transport; behind it, as for files, fish completes the rest of the token by itself. */
function valueFlags(value: Value): string {
  switch (value.kind) {
    case 'words':
      return ` -x -a ${quoted(value.words.join(' '))}`;
    case 'file':
      return ' -r -F';
    case 'directory':
      return " -x -a '(__fish_complete_directories)'";
    case 'image':
      return ` -F -a ${quoted(TRANSPORTS.join(' '))}`;
    case 'free':
      return ' -x';
  }
}

function optionLine(condition: string, { flags, description, value }: CompletedOption): string {
  const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  return `${condition} ${names.join(' ')}${value === null ? '' : valueFlags(value)} -d ${quoted(description)}`;
}

function commandLines({ name, options, arguments: positions }: CompletedCommand): string[] {
  const condition = `complete -c lacuna -n '__fish_seen_subcommand_from ${name}'`;
  // Fish does not count positions: what any argument may be is offered for all of them.
  const kinds = new Map(positions.filter(({ value }) => value.kind !== 'free').map(({ value }) => [value.kind, value]));
  return [
    ...[...kinds.values()].map((value) => `${condition}${valueFlags(value).replace(' -r', '').replace(' -x', '')}`),
    ...options.map((option) => optionLine(condition, option)),
  ];
}

export function fishCompletion(commands: readonly CompletedCommand[]): string {
  const lines = [
    '# Completion of lacuna for fish, made by `lacuna completion fish`.',
    'complete -c lacuna -f',
    "complete -c lacuna -n __fish_use_subcommand -l version -s V -d 'output the version number'",
    ...commands.map(
      ({ name, summary }) => `complete -c lacuna -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`,
    ),
    ...commands.flatMap(commandLines),
  ];
  return `${lines.join('\n')}\n`;
}
