/** `lacuna login HOST`. */
import type { Command } from 'commander';
import { LacunaError } from '../errors.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';
import { ask, readPassword } from './password.ts';
import { storeOptions, withAccess } from './registry-options.ts';

interface Options {
  readonly username?: string;
  readonly password?: string;
  readonly authfile?: string;
}

export const command: CommandSpec = {
  name: 'login',
  group: 'run',
  summary: 'check a user and password with a registry and store them',

  examples: ['lacuna login registry.example --username ci --password-stdin < password'],

  configure(command: Command): void {
    withAccess(command)
      .argument('<registry>', 'HOST[:PORT], or a part of one: HOST/NAMESPACE')
      .option('-u, --username <name>', 'the user (default: prompt)')
      .option('-p, --password <password>', 'other users can see it here: prefer the prompt or --password-stdin')
      .option('--password-stdin', 'read the password from standard input');
  },

  async run(context: CliContext, args: string[], raw: Record<string, unknown>): Promise<CommandResult> {
    const { username, password, authfile } = raw as unknown as Options;
    const { login } = await import('../registry/login.ts');
    const { passwordStdin: _stdin, username: _user, ...access } = raw;
    const { credentials: _stored, ...store } = await storeOptions(context, access);
    const user = username ?? (await ask('User: '));
    if (user === null) throw new LacunaError('USAGE', 'no user is named', { op: 'log in', hint: 'name it with -u' });
    const secret = password ?? (await readPassword(`Password of ${user}: `));
    const options = { ...store, signal: context.signal, ...(authfile === undefined ? {} : { authFile: authfile }) };
    const result = await login(args[0]!, { username: user, password: secret }, options);
    const text = `logged in to ${result.registry} as ${user}; kept in ${result.file}`;
    return { document: { schema: 'lacuna.login.v1', ...result }, text };
  },
};
