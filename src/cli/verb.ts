/** The shape of a verb. One file per verb in this folder; each only parses options and calls the library. */
import type { Command } from 'commander';
import type { Log } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';

/** What every verb gets from the command line's common options. */
export interface CliContext {
  readonly log: Log;
  readonly onProgress: OnProgress;
  /** `--json`: the verb's result is one document on stdout. */
  readonly json: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** The commands of all verbs, loaded for this; they are described, not run. */
  commands(): Promise<Command[]>;
}

export interface Verb {
  readonly name: string;
  readonly summary: string;
  /** Declares arguments and options on the verb's own command. */
  configure(command: Command): void;
  /**
   * Runs the verb. A returned object that has a `schema` is printed by the caller when `--json` is given; `text`
   * prints it for people otherwise. A verb that streams its result to stdout itself returns null.
   */
  run(context: CliContext, args: string[], options: Record<string, unknown>): Promise<VerbResult | null>;
}

export interface VerbResult {
  /** The document for `--json`; its first key is the schema name, e.g. `lacuna.convert.v1`. */
  readonly document: { readonly schema: string } & Record<string, unknown>;
  /** The same for people; may be empty. */
  readonly text: string;
  /** The verb has written an archive to stdout, so the result goes to stderr. */
  readonly toStderr?: boolean;
  /** Exit code when not 0. */
  readonly exitCode?: number;
}
