/** `lacuna tags IMAGE`. */
import type { Command } from 'commander';
import { tags } from '../inspect/tags.ts';
import type { CommandSpec } from './command.ts';
import { shown, write } from './output.ts';
import { SOURCE_FORMS, storeOptions, withRegistryOptions } from './registry-options.ts';

export const command: CommandSpec = {
  name: 'tags',
  group: 'look',
  summary: 'list the tags of a repository, or the names in a layout or archive',
  examples: ['lacuna tags docker://registry.example/app', 'lacuna tags oci:build'],
  configure(command: Command): void {
    withRegistryOptions(command).argument('<repository>', `docker://HOST/NAME, oci:DIR, …: ${SOURCE_FORMS}`);
  },
  async run(context, [repository], options) {
    const found = tags(repository!, { store: await storeOptions(context, options), signal: context.signal });
    if (context.json) {
      const all: string[] = [];
      for await (const tag of found) all.push(tag);
      return { document: { schema: 'lacuna.tags.v1', repository: repository!, tags: all }, text: '' };
    }
    for await (const tag of found) await write(`${shown(tag)}\n`);
    return null;
  },
};
