/** `lacuna version`. */
import { alignColumns } from '../observe/human.ts';
import type { Verb } from './verb.ts';

export const verb: Verb = {
  name: 'version',
  group: 'operate',
  summary: 'print the versions of lacuna, its native addon, Node and the platform',
  examples: ['lacuna version', 'lacuna version --json'],
  configure() {},
  async run() {
    const { version } = await import('../mount/version.ts');
    const found = version();
    const rows = Object.entries(found).map(([name, value]) => [name, value ?? 'not there: see lacuna doctor']);
    return { document: { schema: 'lacuna.version.v1', ...found }, text: alignColumns(rows).join('\n') };
  },
};
