/** Around every command: its common options, its log and progress, its result. */
import { Command } from 'commander';
import { EXIT } from '../errors.ts';
import { DEFAULT_LOG_LEVEL, openLog } from '../observe/log.ts';
import { openProgress } from '../observe/progress-view.ts';
import { printable, printableJson } from '../printable.ts';
import type { CliContext, CommandResult, CommandSpec, Settings } from './command.ts';
import { loadAll } from './commands.ts';
import { type CommonOptions, commonOptions, withCommonOptions } from './common-options.ts';
import { describe, helpFormat, output } from './help.ts';

/** A command that can be described and, as one of the program's, run; its exit code goes to `setExitCode`. */
export function commandOf(spec: CommandSpec, setExitCode: (code: number) => void = () => {}): Command {
  const command = new Command(spec.name).configureHelp(helpFormat).configureOutput(output);
  command.exitOverride().showSuggestionAfterError(false);
  spec.configure(command);
  if (spec.takesConfig === true) command.option('--config <file>', 'TOML file, version = 1; see docs/config.md');
  return describe(withCommonOptions(command), spec).action(async () => setExitCode(await run(spec, command)));
}

const allCommands = async (): Promise<Command[]> => (await loadAll()).map((spec) => commandOf(spec));

async function run(spec: CommandSpec, command: Command): Promise<number> {
  const common = commonOptions(command);
  const options = command.opts();
  const abort = new AbortController();
  const stop = () => abort.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const progress = openProgress(common.progress);
  try {
    const settings = spec.takesConfig === true ? await readSettings(options.config) : {};
    const { onProgress } = progress;
    const context = { ...logOf(common, settings), onProgress, json: common.json, signal: abort.signal, settings };
    const args = command.processedArgs.flat() as string[];
    const result = await spec.run({ ...context, commands: allCommands }, args, options);
    progress.close();
    return result === null ? EXIT.ok : print(result, common.json);
  } finally {
    progress.close();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

async function readSettings(configFile: string | undefined): Promise<Settings> {
  if (configFile === undefined) return {};
  const { loadConfig } = await import('../config/load.ts');
  return { config: await loadConfig(configFile), configFile };
}

/** The level that was chosen, else the configuration's, else the default. */
function logOf(common: CommonOptions, { config }: Settings): Pick<CliContext, 'log' | 'logging'> {
  const { logLevel, logFormat } = common;
  const level = logLevel ?? config?.log.level ?? DEFAULT_LOG_LEVEL;
  return {
    log: openLog({ level, format: logFormat }),
    logging: { logFormat, ...(logLevel === null ? {} : { logLevel }) },
  };
}

function print(result: CommandResult, json: boolean): number {
  const stream = result.toStderr === true ? process.stderr : process.stdout;
  if (json) stream.write(`${printableJson(result.document)}\n`);
  else if (result.text !== '') stream.write(`${shownText(result)}\n`);
  return result.exitCode ?? EXIT.ok;
}

function shownText({ text, isStyled }: CommandResult): string {
  const lines = text.replace(/\n$/, '').split('\n');
  return (isStyled === true ? lines : lines.map(printable)).join('\n');
}
