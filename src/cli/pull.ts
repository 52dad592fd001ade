/** `lacuna pull`: an image into containerd, lazily where it can be. */
import type { Command } from 'commander';
import { humanBytes } from '../observe/human.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';
import { imageArgument } from './image-argument.ts';
import { platformOption } from './platform-option.ts';
import { referrersOf, storeOptions, withDaemonRegistry, withReferrers } from './registry-options.ts';

interface Options {
  readonly containerd: string;
  readonly namespace: string;
  readonly snapshotter: string;
  readonly snapshotterAddress?: string;
  readonly platform?: string;
}

export const command: CommandSpec = {
  name: 'pull',
  group: 'run',
  summary: 'pull an image into containerd, lazily if possible',
  examples: [
    'lacuna pull registry.example/app:1-lazy',
    'lacuna pull registry.example/app:1-lazy --namespace k8s.io',
    'lacuna pull registry.example/app:1-lazy --username ci --password-stdin < password',
  ],

  configure(command: Command): void {
    command
      .argument('<image>', 'image of a registry, e.g. registry.example/app:1', imageArgument)
      .option('--containerd <socket>', "containerd's UNIX socket", '/run/containerd/containerd.sock')
      .option('--namespace <name>', "containerd's namespace", 'default')
      .option('--snapshotter <name>', "the proxy plugin's name in containerd's configuration", 'lacuna')
      .option('--snapshotter-address <socket>', "the snapshotter's socket (default: as containerd says)")
      .option('--platform <os/arch[/variant]>', "default: this machine's", platformOption);
    withReferrers(withDaemonRegistry(command));
  },

  async run(context: CliContext, args: string[], raw: Record<string, unknown>): Promise<CommandResult> {
    const options = raw as unknown as Options;
    const [{ pull }, store, platform] = await Promise.all([
      import('../containerd/pull.ts'),
      storeOptions(context, raw, args),
      platformOf(options.platform),
    ]);
    const result = await pull(args[0]!, {
      ...store,
      containerd: options.containerd,
      namespace: options.namespace,
      snapshotter: options.snapshotter,
      ...(options.snapshotterAddress === undefined ? {} : { snapshotterAddress: options.snapshotterAddress }),
      ...(platform === null ? {} : { platform }),
      ...referrersOf(raw),
      onProgress: context.onProgress,
      signal: context.signal,
    });
    const { image, digest, lazyLayers, notLazy, bytes } = result;
    const reason = notLazy === null ? '' : `; not lazy: ${notLazy}`;
    const text = `${image}@${digest}: ${lazyLayers} lazy layers, ${humanBytes(bytes)} fetched${reason}`;
    return { document: { schema: 'lacuna.pull.v1', ...result }, text };
  },
};

async function platformOf(text: string | undefined) {
  return text === undefined ? null : (await import('../image/platform.ts')).parsePlatform(text);
}
