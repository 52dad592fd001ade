/** `lacuna completion SHELL`: prints a script that completes commands, options, their choices, files and images. */
import { Argument, type Command } from 'commander';
import type { CommandSpec } from './command.ts';
import { bashCompletion } from './completion/bash.ts';
import { fishCompletion } from './completion/fish.ts';
import { type CompletedCommand, describeCommands } from './completion/model.ts';
import { zshCompletion } from './completion/zsh.ts';

const SHELLS: Readonly<Record<string, (commands: readonly CompletedCommand[]) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export const command: CommandSpec = {
  name: 'completion',
  group: 'operate',
  summary: 'print a script that completes the command line in a shell',
  examples: [
    'source <(lacuna completion bash)  # in ~/.bashrc',
    'source <(lacuna completion zsh)  # in ~/.zshrc, behind compinit',
    'lacuna completion fish | source  # in ~/.config/fish/config.fish',
  ],
  configure(command: Command): void {
    command.addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SHELLS)));
  },
  async run(context, [shell]) {
    const script = SHELLS[shell!]!(describeCommands(await context.commands()));
    return { document: { schema: 'lacuna.completion.v1', shell, script }, text: script };
  },
};
