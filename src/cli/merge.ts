/** `lacuna merge OUTPUT BOOTSTRAP…`. */
import { writeFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { humanBytes } from '../observe/human.ts';
import type { CommandSpec } from './command.ts';
import { readList } from './read-list.ts';

interface Options {
  readonly blobs?: string;
  readonly prefetch?: string;
}

export const command: CommandSpec = {
  name: 'merge',
  group: 'build',
  summary: 'merge bare RAFS bootstraps, one per layer, into one',
  examples: ['lacuna merge merged.boot lower.boot upper.boot --blobs blobs/'],
  configure(command: Command): void {
    command
      .argument('<output>', 'the file to write')
      .argument('<bootstraps...>', 'one for each layer, lowest first; taken out of its own blob, it is called ID.boot')
      .addOption(new Option('--blobs <dir>', 'where the blobs are (default: beside each bootstrap)'))
      .option('--prefetch <file>', 'list of paths that readers fetch first, one a line; - is standard input');
  },
  async run(context, [output, ...bootstraps], options) {
    const { blobs, prefetch } = options as Options;
    const { mergeBootstraps } = await import('../convert/merge-bootstraps.ts');
    const references = bootstraps.map((path) => `rafs:${path}${blobs === undefined ? '' : `,blobs=${blobs}`}`);
    const merged = await mergeBootstraps(references, {
      ...(prefetch === undefined ? {} : { prefetch: await readList(prefetch) }),
      onDropped: ({ file, xattr }) => context.log.warn({ file, xattr }, 'an extended attribute is left out'),
    });
    await writeFile(output!, merged.bytes);
    const ids = merged.blobs.map(({ id }) => `sha256:${id}`);
    const size = merged.bytes.length;
    return {
      document: { schema: 'lacuna.merge.v1', output: output!, size, blobs: ids },
      text: [`${output}: ${humanBytes(size)}, ${ids.length} blobs`, ...ids].join('\n'),
    };
  },
};
