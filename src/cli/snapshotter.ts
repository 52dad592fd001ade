/** `lacuna snapshotter`: serves containerd until stopped. */
import { once } from 'node:events';
import type { Command } from 'commander';
import type { CliContext, Verb, VerbResult } from './verb.ts';

interface Options {
  readonly root: string;
  readonly address: string;
  readonly config?: string;
}

export const verb: Verb = {
  name: 'snapshotter',
  summary: "serve containerd's snapshots service on a UNIX socket",

  configure(command: Command): void {
    command
      .requiredOption('--root <dir>', 'where snapshots, caches and mounts of this host are kept')
      .requiredOption('--address <socket>', "UNIX socket that containerd's proxy plugin names")
      .option('--config <file>', 'TOML file, version = 1');
  },

  async run(
    { log, signal }: CliContext,
    _args: string[],
    options: Record<string, unknown>,
  ): Promise<VerbResult | null> {
    const { root, address, config: configFile } = options as unknown as Options;
    const [{ loadConfig }, { serveSnapshotter }] = await Promise.all([
      import('../config/load.ts'),
      import('../snapshotter/serve.ts'),
    ]);
    const fromFile = configFile === undefined ? {} : { config: await loadConfig(configFile), configFile };
    await using _server = await serveSnapshotter({ root, address, log, ...fromFile });
    if (!signal.aborted) await once(signal, 'abort');
    return null;
  },
};
