/** How help looks: groups, examples, and a width that fits. */
import type { Argument, Command, HelpConfiguration, Option, OutputConfiguration } from 'commander';
import type { CommandSpec, Group } from './command.ts';

export const HEADINGS: Readonly<Record<Group, string>> = {
  build: 'Build lazy images:',
  look: 'Look into images:',
  run: 'Run images:',
  operate: 'Operate:',
};

export const REGISTRY_OPTIONS = 'Registry options:';
export const COMMON_OPTIONS = 'Common options:';

/** The command's own options come first, the common ones last; the rest keeps its order. */
const ORDER: Readonly<Record<string, number>> = { 'Options:': -1, [REGISTRY_OPTIONS]: 1, [COMMON_OPTIONS]: 2 };

export const helpFormat: HelpConfiguration = {
  minWidthToWrap: 16,
  subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(argumentTerm)].join(' '),
  groupItems<T extends Command | Option>(_all: T[], visible: T[], headingOf: (item: T) => string): Map<string, T[]> {
    const rank = (heading: string) => ORDER[heading] ?? 0;
    const headings = [...new Set(visible.map(headingOf))].toSorted((a, b) => rank(a) - rank(b));
    return new Map(headings.map((heading) => [heading, visible.filter((item) => headingOf(item) === heading)]));
  },
};

const argumentTerm = (argument: Argument): string => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
};

/** `COLUMNS`, or the terminal's width; 80 columns for a pipe. Longer lines read badly. */
function columns(stream: NodeJS.WriteStream): number {
  const wished = Number(process.env.COLUMNS);
  const width = Number.isSafeInteger(wished) && wished > 0 ? wished : stream.columns || 80;
  return Math.min(Math.max(width, 40), 120);
}

/** commander prints help; Lacuna reports errors in its own form. */
export const output: OutputConfiguration = {
  getOutHelpWidth: () => columns(process.stdout),
  getErrHelpWidth: () => columns(process.stderr),
  outputError: () => {},
};

/** Group and examples of a command. */
export function describe(command: Command, { group, summary, examples }: CommandSpec): Command {
  command.helpGroup(HEADINGS[group]).description(summary);
  return command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`);
}

export const PROGRAM_EPILOGUE = `
Common options may stand before the command or behind it. \`lacuna COMMAND --help\`
shows the options and examples of one; all are in docs/cli.md and in man pages.`;
