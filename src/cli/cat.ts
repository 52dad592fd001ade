/** `lacuna cat IMAGE PATH…`. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { cat } from '../reader/cat.ts';
import { storeOptions, withRegistryOptions } from './registry-options.ts';
import type { Verb } from './verb.ts';

export const verb: Verb = {
  name: 'cat',
  summary: 'print files of an image, without mounting it',
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<image>', 'docker://HOST/NAME:TAG, oci:DIR:REF, rafs:BOOTSTRAP[,blobs=DIR], or a bare name')
      .argument('<path...>', 'files in the image')
      .option('--platform <os/arch>', 'which one of a multi-platform image');
  },
  async run(context, [image, ...paths], options) {
    const platform = options.platform as string | undefined;
    const content = cat(image!, paths, {
      store: await storeOptions(context, options),
      signal: context.signal,
      ...(platform === undefined ? {} : { platform }),
    });
    for await (const piece of content) {
      if (!process.stdout.write(piece)) await once(process.stdout, 'drain');
    }
    return null;
  },
};
