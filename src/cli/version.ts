/** `lacuna version`. */
import { alignColumns } from '../observe/human.ts';
import type { CommandSpec } from './command.ts';

export const command: CommandSpec = {
  name: 'version',
  group: 'operate',
  summary: 'print the versions of lacuna, its native addon, Node and the platform',
  examples: ['lacuna version', 'lacuna version --json'],
  configure() {},
  async run() {
    const { version } = await import('../doctor/version.ts');
    const found = version();
    const rows = Object.entries(found).map(([name, value]) => [name, value ?? 'not available: see lacuna doctor']);
    return { document: { schema: 'lacuna.version.v1', ...found }, text: alignColumns(rows).join('\n') };
  },
};
