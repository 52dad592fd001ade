/** `lacuna cleanup`: ends daemon, holder and mounts of a root. */
import type { Command } from 'commander';
import type { CleanupResult } from '../mount/cleanup.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';

export const command: CommandSpec = {
  name: 'cleanup',
  group: 'operate',
  summary: 'end daemon, holder and mounts of a root; records and cache stay',
  examples: [
    'lacuna cleanup --root /var/lib/lacuna',
    'lacuna cleanup --root /var/lib/lacuna --purge  # delete records, snapshots and cache too',
  ],

  configure(command: Command): void {
    command
      .requiredOption('--root <dir>', 'the root of `lacuna snapshotter`, `daemon` or `mount`')
      .option('--force', 'end a snapshotter that serves this root as well; purge snapshots that are in use')
      .option('--purge', 'delete records, snapshots and cache too');
  },

  async run({ log }: CliContext, _args: string[], raw: Record<string, unknown>): Promise<CommandResult> {
    const { root, force, purge } = raw as { root: string; force?: boolean; purge?: boolean };
    const { cleanup } = await import('../mount/cleanup.ts');
    const result = await cleanup(root, { force: force === true, purge: purge === true, log });
    return { document: { schema: 'lacuna.cleanup.v1', ...result }, text: describe(result) };
  },
};

function describe({ snapshotter, daemon, holder, unmounted, detached, purged, root }: CleanupResult): string {
  const lines = [
    ...(snapshotter === null ? [] : [`snapshotter ended (pid ${snapshotter})`]),
    ...unmounted.map((target) => `unmounted ${target}${detached.includes(target) ? ' (still in use)' : ''}`),
    ...(daemon === null ? [] : [`daemon ended (pid ${daemon})`]),
    ...(holder ? ['holder ended'] : []),
    ...(purged ? [`deleted what was in ${root}`] : []),
  ];
  return lines.length === 0 ? `nothing was running or mounted in ${root}` : lines.join('\n');
}
