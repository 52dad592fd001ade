/** The shape of a command. One file per command in this folder; each only parses options and calls the library. */
import type { Command } from 'commander';
import type { Config } from '../config/table.ts';
import type { Log, LogFormat, LogLevel } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';

/** The common options of the command line, as a command receives them. */
export interface CliContext {
  readonly log: Log;
  readonly onProgress: OnProgress;
  /** `--json`: the command's result is one document on stdout. */
  readonly json: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Of a command that `takesConfig`: its settings, at their defaults without a file. */
  readonly settings: Settings;
  /** Log settings for processes that this one starts; a level only when one was chosen. */
  readonly logging: { readonly logLevel?: LogLevel; readonly logFormat: LogFormat };
  /** All commands, loaded for this; they are described, not run. */
  commands(): Promise<Command[]>;
}

export interface Settings {
  readonly config?: Config;
  readonly configFile?: string;
}

/** Where help lists a command; the headings are in help.ts. */
export type Group = 'build' | 'look' | 'run' | 'operate';

export interface CommandSpec {
  readonly name: string;
  readonly group: Group;
  readonly summary: string;
  /** Complete command lines, each with a trailing comment when it is not obvious. */
  readonly examples: readonly string[];
  /** Has `--config FILE`, which is read and checked before it runs. */
  readonly takesConfig?: true;
  /** Declares arguments and options on the command. */
  configure(command: Command): void;
  /**
   * Runs the command. A returned object that has a `schema` is printed by the caller when `--json` is given; `text`
   * prints it for people otherwise. A command that streams its result to stdout itself returns null.
   */
  run(context: CliContext, args: string[], options: Record<string, unknown>): Promise<CommandResult | null>;
}

export interface CommandResult {
  /** The document for `--json`; its first key is the schema name, e.g. `lacuna.convert.v1`. */
  readonly document: { readonly schema: string } & Record<string, unknown>;
  /** The same for people; may be empty. Control characters other than line ends are escaped. */
  readonly text: string;
  /** `text` has colours, and untrusted text in it is already escaped. */
  readonly isStyled?: true;
  /** The command has written an archive to stdout, so the result goes to stderr. */
  readonly toStderr?: boolean;
  /** Exit code when not 0. */
  readonly exitCode?: number;
}
