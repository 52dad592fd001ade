/**
 * The process that `ensureDaemon` starts. It loads no module of the command line, because reads wait for it after a
 * crash. `lacuna daemon` runs the same in the foreground.
 */
import { parseArgs } from 'node:util';
import { defaultConfig, loadConfig } from '../config/load.ts';
import { exitCodeOf, toLacunaError } from '../errors.ts';
import { DEFAULT_LOG_FORMAT, errorRow, LOG_FORMATS, LOG_LEVELS, type LogLevel, openLog } from '../observe/log.ts';
import { runDaemon } from './run.ts';

const { values } = parseArgs({
  options: {
    root: { type: 'string' },
    config: { type: 'string' },
    'log-level': { type: 'string' },
    'log-format': { type: 'string' },
    'log-file': { type: 'string' },
  },
});

// A write to standard error that fails, as on a full disk, must not end the daemon.
process.stderr.on('error', () => {});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
process.once('SIGINT', () => stop.abort());

const format = LOG_FORMATS.find((name) => name === values['log-format']) ?? DEFAULT_LOG_FORMAT;
const file = values['log-file'];
const output = { name: 'daemon', format, ...(file === undefined ? {} : { file }) };
let log = openLog(output);
try {
  const config = values.config === undefined ? defaultConfig() : await loadConfig(values.config);
  log = openLog({ ...output, level: levelOf(values['log-level']) ?? config.log.level });
  if (values.root === undefined) throw new Error('--root is missing');
  await runDaemon({ root: values.root, config, log, signal: stop.signal });
} catch (error) {
  const failure = toLacunaError(error);
  log.error({ error: errorRow(failure) }, 'the daemon ends');
  process.exitCode = exitCodeOf(failure);
}

function levelOf(text: string | undefined): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === text);
}
