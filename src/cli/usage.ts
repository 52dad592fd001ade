/** Errors of the command line's parser as USAGE errors with a hint. */
import type { Command, CommanderError } from 'commander';
import { LacunaError } from '../errors.ts';
import { nearest } from '../suggest.ts';

/** `words` are the command line's, `command` is the one that they name; the program itself where they name none. */
export function usageError(error: CommanderError, command: Command, words: readonly string[]): LacunaError {
  const isProgram = command.parent === null;
  // commander has printed the help before this message.
  const message = error.code === 'commander.help' ? 'no command is given' : error.message;
  const problem = message.replace(/^error: /, '').replace(/\.?\s*$/, '');
  const meant = suggestion(problem, command, words);
  return new LacunaError('USAGE', problem, {
    ...(isProgram ? {} : { op: command.name() }),
    hint: meant === null ? `see lacuna ${isProgram ? '' : `${command.name()} `}--help` : `Did you mean ${meant}?`,
  });
}

export function unknownCommand(name: string, names: readonly string[]): LacunaError {
  const meant = nearest(name, [...names, 'help']);
  const hint = meant === null ? 'see lacuna --help' : `Did you mean ${meant}?`;
  return new LacunaError('USAGE', `unknown command '${name}'`, { hint });
}

function suggestion(problem: string, command: Command, words: readonly string[]): string | null {
  const unknown = /^unknown option '(.+)'$/.exec(problem);
  if (unknown !== null) return option(unknown[1]!, command, words);
  const choices = /'([^']*)' is invalid.* Allowed choices are (.+)$/.exec(problem);
  return choices === null ? null : nearest(choices[1]!, choices[2]!.split(', '));
}

/** find(1) writes its options with one dash, of which the parser sees letters: `-name` is meant as `--name`. */
function option(unknown: string, { options }: Command, words: readonly string[]): string | null {
  const flags = options.flatMap(({ long }) => (long == null ? [] : [long]));
  const short = words.find((word) => /^-[a-z]/.test(word) && word.includes(unknown.slice(1)));
  const doubled = short === undefined ? undefined : flags.find((flag) => flag === `-${short.split('=')[0]}`);
  return doubled ?? nearest(short ?? unknown.split('=')[0]!, flags);
}
