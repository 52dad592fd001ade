/** The model of the command line that shells complete, built from the commands. */
import type { Command } from 'commander';

/** Kinds of values of options and arguments. */
export type Value =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'file' | 'directory' | 'image' | 'free' };

export interface CompletedOption {
  /** `--ndjson`, `-r`: as they are typed. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Null when it takes none. */
  readonly value: Value | null;
}

export interface CompletedCommand {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  readonly arguments: ReadonlyArray<{ readonly name: string; readonly value: Value; readonly isVariadic: boolean }>;
}

/** Transports of image references; the last ones are followed by a path. */
export const TRANSPORTS: readonly string[] = ['docker://', 'oci:', 'oci-archive:', 'docker-archive:', 'dir:', 'rafs:'];

/** Placeholder of an option or argument → the kind of its value; all others are free text. */
const KINDS: Readonly<Record<string, 'file' | 'directory' | 'image'>> = {
  file: 'file',
  socket: 'file',
  dir: 'directory',
  image: 'image',
  source: 'image',
  target: 'image',
  a: 'image',
  b: 'image',
};

function valueFor(placeholder: string, choices: readonly string[] | undefined): Value {
  if (choices !== undefined) return { kind: 'words', words: choices };
  return { kind: Object.hasOwn(KINDS, placeholder) ? KINDS[placeholder]! : 'free' };
}

export const describeCommands = (commands: readonly Command[]): CompletedCommand[] =>
  commands.map((command) => ({
    name: command.name(),
    summary: command.description(),
    options: [
      ...command.options
        .filter(({ hidden }) => !hidden)
        .map(({ flags, long, short, description, argChoices }): CompletedOption => {
          const placeholder = /[<[]([^>\]]+)[>\]]/.exec(flags)?.[1];
          return {
            flags: [long, short].filter((flag) => flag != null),
            description,
            value: placeholder === undefined ? null : valueFor(placeholder, argChoices),
          };
        }),
      { flags: ['--help', '-h'], description: 'display help for command', value: null },
    ],
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      value: valueFor(argument.name(), argument.argChoices),
      isVariadic: argument.variadic,
    })),
  }));
