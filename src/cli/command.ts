/** The shape of a command. One file per command in this folder; each only parses options and calls the library. */
import type { Command } from 'commander';
import type { Config } from '../config/table.ts';
import type { Log, LogFormat, LogLevel } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';

/** What a command gets from the command line's common options. */
export interface CliContext {
  readonly log: Log;
  readonly onProgress: OnProgress;
  /** `--json`: the command's result is one document on stdout. */
  readonly json: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Of a command that `takesConfig`: its settings, at their defaults without a file. */
  readonly settings: Settings;
  /** How a process that this one starts has to log; a level only where one was chosen. */
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
  /** Lines as people type them, from `lacuna` on, each with ` # what for` where it does not speak for itself. */
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
  /** The same for people; may be empty. Control characters in it are escaped, but for line ends. */
  readonly text: string;
  /** `text` has colours: what others wrote is escaped in it already. */
  readonly isStyled?: true;
  /** The command has written an archive to stdout, so the result goes to stderr. */
  readonly toStderr?: boolean;
  /** Exit code when not 0. */
  readonly exitCode?: number;
}
