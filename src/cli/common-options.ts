/** The options that every command has, which may stand before it as well. */
import { type Command, Option } from 'commander';
import type { LogFormat, LogLevel } from '../observe/log.ts';
import { DEFAULT_LOG_FORMAT, DEFAULT_LOG_LEVEL, LOG_FORMATS, LOG_LEVELS } from '../observe/log.ts';
import type { ProgressStyle } from '../observe/progress-view.ts';
import { COMMON_OPTIONS } from './help.ts';

export interface CommonOptions {
  /** Null when no level was chosen: a configuration file may set one. */
  readonly logLevel: LogLevel | null;
  readonly logFormat: LogFormat;
  readonly progress: ProgressStyle;
  readonly json: boolean;
}

export function withCommonOptions(command: Command): Command {
  const options = [
    new Option('--json', 'print the result, or the error, as one JSON document'),
    new Option('--progress <style>', 'how to show progress on standard error; auto: bars on a terminal')
      .choices(['auto', 'bar', 'json', 'none'])
      .default('auto'),
    new Option('--log-level <level>', 'minimum level of log lines')
      .choices(LOG_LEVELS)
      .env('LACUNA_LOG_LEVEL')
      .default(DEFAULT_LOG_LEVEL),
    new Option('--log-format <format>', 'format of log lines')
      .choices(LOG_FORMATS)
      .env('LACUNA_LOG_FORMAT')
      .default(DEFAULT_LOG_FORMAT),
  ];
  for (const option of options) command.addOption(option.helpGroup(COMMON_OPTIONS));
  return command.addHelpOption(new Option('-h, --help', 'show this help').helpGroup(COMMON_OPTIONS));
}

/** An option after the command overrides one before it, which overrides the environment. */
export function commonOptions(command: Command): CommonOptions {
  const places = command.parent === null ? [command] : [command, command.parent];
  const source = (name: string): Command =>
    places.find((place) => place.getOptionValueSource(name) === 'cli') ?? command;
  const value = <T>(name: string): T => source(name).getOptionValue(name) as T;
  const isChosen = source('logLevel').getOptionValueSource('logLevel') !== 'default';
  return {
    logLevel: isChosen ? value<LogLevel>('logLevel') : null,
    logFormat: value('logFormat'),
    progress: value('progress'),
    json: value<boolean | undefined>('json') === true,
  };
}
