/** `lacuna cat IMAGE PATH…`. */
import type { Command } from 'commander';
import { cat } from '../inspect/cat.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { write } from './output.ts';

export const command: CommandSpec = {
  name: 'cat',
  group: 'look',
  summary: 'print files of an image, without mounting it',
  examples: ['lacuna cat docker://registry.example/app:1-lazy /etc/os-release'],
  configure(command: Command): void {
    withImage(command).argument('<path...>', 'files in the image');
  },
  async run(context, [image, ...paths], options) {
    for await (const piece of cat(image!, paths, await openOptions(context, options))) await write(piece);
    return null;
  },
};
