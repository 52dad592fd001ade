/** `lacuna daemon`: the data plane in the foreground. */
import type { Command } from 'commander';
import { DEFAULT_ROOT } from '../daemon/root.ts';
import type { CommandSpec } from './command.ts';

interface Options {
  readonly root: string;
}

export const command: CommandSpec = {
  name: 'daemon',
  group: 'operate',
  summary: 'run the data plane of a root in the foreground',
  examples: ['lacuna daemon --root /var/lib/lacuna --config /etc/lacuna/config.toml'],
  takesConfig: true,
  configure(command: Command): void {
    command.option('--root <dir>', 'where caches and sockets of this host are kept', DEFAULT_ROOT);
  },
  async run({ log, signal, settings }, _args, options) {
    const { root } = options as unknown as Options;
    const [{ defaultConfig }, { runDaemon }] = await Promise.all([
      import('../config/load.ts'),
      import('../daemon/run.ts'),
    ]);
    await runDaemon({ root, config: settings.config ?? defaultConfig(), log, signal });
    return null;
  },
};
