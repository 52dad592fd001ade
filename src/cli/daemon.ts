/** `lacuna daemon`: the data plane in the foreground. */
import type { Command } from 'commander';
import { DEFAULT_ROOT } from '../daemon/root.ts';
import type { Verb } from './verb.ts';

interface Options {
  readonly root: string;
  readonly config?: string;
}

export const verb: Verb = {
  name: 'daemon',
  summary: 'run the data plane of a root in the foreground',
  configure(command: Command): void {
    command
      .option('--root <dir>', 'where caches and sockets of this host are kept', DEFAULT_ROOT)
      .option('--config <file>', 'TOML file, version = 1');
  },
  async run({ log, signal }, _args, options) {
    const { root, config } = options as unknown as Options;
    const [{ defaultConfig, loadConfig }, { runDaemon }] = await Promise.all([
      import('../config/load.ts'),
      import('../daemon/run.ts'),
    ]);
    await runDaemon({ root, config: config === undefined ? defaultConfig() : await loadConfig(config), log, signal });
    return null;
  },
};
