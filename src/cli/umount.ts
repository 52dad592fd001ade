/** `lacuna umount`: the end of a `lacuna mount`. */
import type { Command } from 'commander';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';

export const command: CommandSpec = {
  name: 'umount',
  group: 'run',
  summary: 'unmount a lazy image',
  examples: ['lacuna umount /mnt/app'],

  configure(command: Command): void {
    command
      .argument('<dir>', 'where `lacuna mount` has mounted it')
      .option('--lazy', 'detach it although it is in use; it ends with its last user');
  },

  async run(_context: CliContext, args: string[], raw: Record<string, unknown>): Promise<CommandResult> {
    const { umount } = await import('../mount/umount.ts');
    const target = await umount(args[0]!, { detach: raw.lazy === true });
    return { document: { schema: 'lacuna.umount.v1', target }, text: '' };
  },
};
