/** Man pages, from the commands' own descriptions: `npm run man` writes them to docs/man. */
import type { Command, Option } from 'commander';
import { EXIT } from '../errors.ts';
import type { CommandSpec } from './command.ts';

/** Characters that troff takes for something else, and those that not every one of them reads. */
const quoted = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replace(/[^\x20-\x7e]/gu, (c) => `\\[u${c.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}]`);

/** A line of text: what begins one is not to be a request. */
const line = (text: string): string => quoted(text).replace(/^[.]/, '\\&.');

const item = (term: string, text: string): string => `.TP\n.B ${quoted(term)}\n${line(text)}`;

const heading = (text: string): string => `.SH ${text.replace(/:$/, '').toUpperCase()}`;

function page(name: string, summary: string, sections: readonly string[], version: string): string {
  const title = `.TH ${name.toUpperCase()} 1 "" "lacuna ${version}" "Lacuna"`;
  return `${[title, '.SH NAME', `${quoted(name)} \\- ${line(summary)}`, ...sections].join('\n')}\n`;
}

/** Groups of options, as help has them. */
function optionSections(command: Command): string[] {
  const help = command.createHelp();
  const options = help.visibleOptions(command) as Option[];
  const groups = help.groupItems(options, options, (option) => option.helpGroupHeading ?? 'Options:');
  return [...groups].flatMap(([name, members]) => [
    heading(name),
    ...members.map((option) => item(help.optionTerm(option), help.optionDescription(option))),
  ]);
}

const exitSection = (): string[] => [
  heading('Exit status'),
  ...Object.entries(EXIT).map(([name, code]) =>
    item(
      String(code),
      name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`),
    ),
  ),
];

const literal = (lines: readonly string[]): string => `.nf\n${lines.map(line).join('\n')}\n.fi`;

/** The page of one command. */
export function commandPage(spec: CommandSpec, command: Command, version: string): string {
  const help = command.createHelp();
  const terms = command.registeredArguments.map((argument) =>
    item(argument.name(), help.argumentDescription(argument)),
  );
  const synopsis = `${quoted(command.usage())}`;
  const sections = [
    ...[heading('Synopsis'), `.B lacuna ${spec.name}`, synopsis],
    ...(terms.length === 0 ? [] : [heading('Arguments'), ...terms]),
    ...optionSections(command),
    ...[heading('Examples'), literal(spec.examples)],
    ...exitSection(),
    ...[heading('See also'), '.BR lacuna (1)'],
  ];
  return page(`lacuna-${spec.name}`, spec.summary, sections, version);
}

/** The page of the program: what commands there are. */
export function programPage(program: Command, specs: readonly CommandSpec[], version: string): string {
  const help = program.createHelp();
  const commands = help.visibleCommands(program);
  const groups = help.groupItems(commands, commands, (command) => command.helpGroup());
  const sections = [
    ...[heading('Synopsis'), '.B lacuna', '[options] <command>'],
    ...[...groups].flatMap(([name, members]) => [
      heading(name),
      ...members.map((command) => item(help.subcommandTerm(command), command.description())),
    ]),
    ...optionSections(program),
    ...exitSection(),
    ...[heading('See also'), specs.map(({ name }) => `.BR lacuna\\-${name} (1)`).join(',\n')],
  ];
  return page('lacuna', program.description(), sections, version);
}
