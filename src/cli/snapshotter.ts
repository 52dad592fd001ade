/** `lacuna snapshotter`: serves containerd until stopped. */
import { once } from 'node:events';
import type { Command } from 'commander';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';

interface Options {
  readonly root: string;
  readonly address: string;
}

export const command: CommandSpec = {
  name: 'snapshotter',
  group: 'operate',
  summary: "serve containerd's snapshots service on a UNIX socket",
  examples: ['lacuna snapshotter --root /var/lib/lacuna --address /run/lacuna/snapshotter.sock'],
  takesConfig: true,
  configure(command: Command): void {
    command
      .requiredOption('--root <dir>', 'where snapshots, caches and mounts of this host are kept')
      .requiredOption('--address <socket>', "UNIX socket that containerd's proxy plugin names");
  },

  async run(
    { log, logging, signal, settings }: CliContext,
    _args: string[],
    options: Record<string, unknown>,
  ): Promise<CommandResult | null> {
    const { root, address } = options as unknown as Options;
    const { serveSnapshotter } = await import('../snapshotter/serve.ts');
    await using _server = await serveSnapshotter({ root, address, log, ...logging, ...settings });
    if (!signal.aborted) await once(signal, 'abort');
    return null;
  },
};
