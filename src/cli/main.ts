#!/usr/bin/env node
/**
 * The command line: common options, one lazily loaded file per verb, errors and exit codes.
 * stdout carries the result only; progress and logs go to stderr.
 */
import { createRequire } from 'node:module';
import { Command, CommanderError, Option } from 'commander';
import { EXIT, exitCodeOf, toLacunaError } from '../errors.ts';
import { DEFAULT_LOG_LEVEL, LOG_LEVELS, type LogLevel, openLog } from '../observe/log.ts';
import { openProgress, type ProgressStyle } from '../observe/progress.ts';
import type { Verb } from './verb.ts';

/** Name → loader. The summary stands in the verb's file; only the verb that runs is loaded. */
const VERBS: Record<string, () => Promise<{ verb: Verb }>> = {
  convert: () => import('./convert.ts'),
  dict: () => import('./dict.ts'),
  merge: () => import('./merge.ts'),
  inspect: () => import('./inspect.ts'),
  check: () => import('./check.ts'),
  ls: () => import('./ls.ts'),
  cat: () => import('./cat.ts'),
  stat: () => import('./stat.ts'),
  find: () => import('./find.ts'),
  diff: () => import('./diff.ts'),
  export: () => import('./export.ts'),
  unpack: () => import('./unpack.ts'),
  mount: () => import('./mount.ts'),
  umount: () => import('./umount.ts'),
  pull: () => import('./pull.ts'),
  snapshotter: () => import('./snapshotter.ts'),
  daemon: () => import('./daemon.ts'),
  cleanup: () => import('./cleanup.ts'),
  doctor: () => import('./doctor.ts'),
  completion: () => import('./completion.ts'),
};

interface CommonOptions {
  readonly logLevel: LogLevel;
  readonly progress: ProgressStyle;
  readonly json?: boolean;
}

async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('lacuna')
    .description('Container images that start before they have arrived.')
    .version(packageVersion(), '-V, --version')
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError();
  let code: number = EXIT.ok;
  // Help lists all verbs, so it loads all; any other call loads one.
  const wanted = argv.find((word) => !word.startsWith('-'));
  const names = wanted !== undefined && Object.hasOwn(VERBS, wanted) ? [wanted] : Object.keys(VERBS);
  if (!argv.some((word) => word === '-V' || word === '--version')) {
    for (const name of names) {
      const { verb } = await VERBS[name]!();
      program.addCommand(commandOf(verb, (exitCode) => (code = exitCode)));
    }
  }
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    report(error, argv);
    return exitCodeOf(error);
  }
}

const allCommands = (): Promise<Command[]> =>
  Promise.all(Object.values(VERBS).map(async (load) => commandOf((await load()).verb, () => {})));

function commandOf(verb: Verb, setExitCode: (code: number) => void): Command {
  const command = new Command(verb.name).description(verb.summary).exitOverride();
  verb.configure(command);
  command
    .addOption(new Option('--log-level <level>', 'what to log').choices(LOG_LEVELS).default(DEFAULT_LOG_LEVEL))
    .addOption(
      new Option('--progress <style>', 'how to show progress').choices(['auto', 'bar', 'json', 'none']).default('auto'),
    )
    .option('--json', 'print the result as one JSON document')
    .action(async () => {
      const options = command.opts<CommonOptions & Record<string, unknown>>();
      const abort = new AbortController();
      const stop = () => abort.abort();
      process.once('SIGINT', stop);
      process.once('SIGTERM', stop);
      const progress = await openProgress(options.progress);
      try {
        const log = openLog({ level: options.logLevel });
        const json = options.json === true;
        const context = { log, onProgress: progress.onProgress, json, signal: abort.signal, commands: allCommands };
        const result = await verb.run(context, command.processedArgs.flat() as string[], options);
        progress.close();
        if (result === null) return;
        const output = result.toStderr === true ? process.stderr : process.stdout;
        if (context.json) output.write(`${JSON.stringify(result.document)}\n`);
        else if (result.text !== '') output.write(`${result.text.replace(/\n$/, '')}\n`);
        setExitCode(result.exitCode ?? EXIT.ok);
      } finally {
        progress.close();
        process.off('SIGINT', stop);
        process.off('SIGTERM', stop);
      }
    });
  return command;
}

/** An error for people on stderr, or as a document on stdout where a document was asked for. */
function report(error: unknown, argv: readonly string[]): void {
  const failure = toLacunaError(error);
  if (argv.includes('--json'))
    process.stdout.write(`${JSON.stringify({ schema: 'lacuna.error.v1', error: failure.toJSON() })}\n`);
  const what = failure.op === null ? '' : `${failure.op}: `;
  const subject = failure.subject === null ? '' : ` (${failure.subject})`;
  process.stderr.write(`lacuna: ${what}${failure.message}${subject} [${failure.code}]\n`);
  if (failure.hint !== null) process.stderr.write(`hint: ${failure.hint}\n`);
  const isDebugging = /--log-level[= ](debug|trace)/.test(argv.join(' '));
  if (isDebugging && failure.code === 'INTERNAL' && failure.cause instanceof Error) {
    process.stderr.write(`${failure.cause.stack}\n`);
  }
}

function packageVersion(): string {
  const found = createRequire(import.meta.url)('../../package.json') as { version: string };
  return found.version;
}

// A reader that went away (`lacuna ls … | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

process.exitCode = await main(process.argv.slice(2));
