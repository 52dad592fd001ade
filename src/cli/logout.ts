/** `lacuna logout HOST`. */
import type { Command } from 'commander';
import { LacunaError } from '../errors.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';
import { AUTHFILE, AUTHFILE_HELP } from './registry-options.ts';

interface Options {
  readonly all?: boolean;
  readonly authfile?: string;
}

export const command: CommandSpec = {
  name: 'logout',
  group: 'run',
  summary: 'delete the stored login of a registry',

  examples: ['lacuna logout registry.example', 'lacuna logout --all'],

  configure(command: Command): void {
    command
      .argument('[registry]', 'HOST[:PORT], or a part of one: HOST/NAMESPACE')
      .option('--all', 'delete every stored login')
      .option(AUTHFILE, AUTHFILE_HELP);
  },

  async run(_context: CliContext, args: string[], raw: Record<string, unknown>): Promise<CommandResult> {
    const { all = false, authfile } = raw as unknown as Options;
    const registry = args[0] ?? null;
    if ((registry === null) !== all) {
      throw new LacunaError('USAGE', 'name one registry, or give --all', { op: 'log out' });
    }
    const { logout } = await import('../registry/login.ts');
    const removed = await logout(registry, authfile === undefined ? {} : { authFile: authfile });
    const text = removed.map((it) => `logged out of ${it.registry}; removed from ${it.file}`).join('\n');
    return { document: { schema: 'lacuna.logout.v1', removed }, text };
  },
};
