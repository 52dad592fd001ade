/** `lacuna convert SRC DST`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseSize } from '../config/units.ts';
import { convert } from '../convert/convert.ts';
import { DEFAULT_CHUNK_SIZE, DEFAULT_LEVEL } from '../convert/options.ts';
import { storeOptions, withRegistryOptions } from './registry-options.ts';
import type { Verb } from './verb.ts';

interface Options {
  readonly platform?: string[];
  readonly chunkSize: number;
  readonly level: number;
  readonly dedup: 'merge' | 'image';
}

const size = (text: string): number => {
  const bytes = parseSize(text);
  if (bytes === null) throw new InvalidArgumentError('give a size with its unit, for example 128KiB.');
  return bytes;
};

export const verb: Verb = {
  name: 'convert',
  summary: 'make a lazy image of an OCI or Docker image',
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<source>', 'docker://HOST/NAME:TAG, oci:DIR:REF, or a bare name')
      .argument('<target>', 'the same forms')
      .option('--platform <os/arch>', 'convert only this platform of an index (repeatable)', collect)
      .option('--chunk-size <size>', 'unit of fetching and of dedup', size, DEFAULT_CHUNK_SIZE)
      .option('--level <n>', 'zstd level, 1 to 19', Number, DEFAULT_LEVEL)
      .addOption(
        new Option('--dedup <how>', 'merge: every blob is whole; image: upper blobs leave out what lower ones have')
          .choices(['merge', 'image'])
          .default('merge'),
      );
  },
  async run(context, args, options) {
    const { platform, chunkSize, level, dedup } = options as unknown as Options;
    const store = await storeOptions(context, options);
    const result = await convert(args[0]!, args[1]!, {
      ...(platform === undefined ? {} : { platforms: platform }),
      chunkSize,
      level,
      dedup,
      source: store,
      target: store,
      log: context.log,
      onProgress: context.onProgress,
      signal: context.signal,
    });
    return { document: { schema: 'lacuna.convert.v1', ...result }, text: describe(result) };
  },
};

function describe(result: Awaited<ReturnType<typeof convert>>): string {
  const lines = result.images.map((image) => {
    const before = image.layers.reduce((sum, layer) => sum + layer.sourceSize, 0);
    const after = image.layers.reduce((sum, layer) => sum + layer.blobSize, image.bootstrap.size);
    return `${image.platform}: ${image.layers.length} layers, ${megabytes(before)} -> ${megabytes(after)} MB`;
  });
  return [...lines, `${result.target}@${result.digest}`].join('\n');
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
