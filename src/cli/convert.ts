/** `lacuna convert SRC DST`. */
import { type Command, Option } from 'commander';
import { convert } from '../convert/convert.ts';
import {
  type BlobForm,
  COMPRESSORS,
  type CompressorName,
  type ConvertOptions,
  DEFAULT_CHUNK_SIZE,
  DEFAULT_LEVEL,
  type Dedup,
  DIGESTERS,
  type DigesterName,
  type TargetForm,
} from '../convert/options.ts';
import type { ImageReport } from '../convert/report.ts';
import { LacunaError } from '../errors.ts';
import { isStream, parseReference } from '../image/reference.ts';
import { dictOption, imageArgument } from './image-argument.ts';
import { platformsOption } from './platform-option.ts';
import { readList } from './read-list.ts';
import { SOURCE_FORMS, sideOptions, TARGET_FORMS, withSides } from './registry-options.ts';
import { sizeOption } from './size-option.ts';
import type { Verb } from './verb.ts';

interface Options {
  readonly platform?: string[];
  readonly chunkSize: number;
  readonly compressor?: CompressorName;
  readonly level?: number;
  readonly digester?: DigesterName;
  readonly batchSize?: number;
  readonly blob?: BlobForm;
  readonly align?: number;
  readonly prefetch?: string;
  readonly ociRef?: boolean;
  readonly dedup?: Dedup;
  readonly dict?: string[];
  readonly as: TargetForm;
}

export const verb: Verb = {
  name: 'convert',
  group: 'build',
  summary: 'make a lazy image of an OCI or Docker image',
  examples: [
    'lacuna convert docker://registry.example/app:1 docker://registry.example/app:1-lazy',
    'lacuna convert oci:build:app oci:build:app-lazy --platform linux/arm64',
    'lacuna convert docker://registry.example/app:1 --as referrer  # the original stays as it is',
    'docker save app | lacuna convert docker-archive:- oci-archive:- > app-lazy.tar',
  ],
  configure(command: Command): void {
    withSides(command)
      .argument('<source>', SOURCE_FORMS, imageArgument)
      .argument('[target]', `${TARGET_FORMS}; for referrers the default is where the original is`, imageArgument)
      .option(
        '--platform <os/arch>',
        'of an index only these: repeatable, or separated by commas (default: all)',
        platformsOption,
      )
      .addOption(
        new Option('--chunk-size <size>', 'unit of fetching and of dedup')
          .argParser(sizeOption)
          .default(DEFAULT_CHUNK_SIZE, `${DEFAULT_CHUNK_SIZE / 1024}KiB`),
      )
      .addOption(
        new Option('--compressor <name>', 'how chunks are compressed (default: zstd)').choices(
          Object.keys(COMPRESSORS),
        ),
      )
      .option('--level <n>', `zstd level, 1 to 19 (default: ${DEFAULT_LEVEL})`, Number)
      .addOption(
        new Option('--digester <name>', 'how chunks are named (default: blake3)').choices(Object.keys(DIGESTERS)),
      )
      .option('--batch-size <size>', 'compress small files together up to this size (default: each alone)', sizeOption)
      .addOption(
        new Option(
          '--blob <form>',
          'one: chunk info lies in the blob; separate: in a small blob of its own (default: one)',
        ).choices(['one', 'separate']),
      )
      .option('--align <size>', "where a blob's device begins in the flat address space (default: 512KiB)", sizeOption)
      .option('--prefetch <file>', 'list of paths that readers fetch first, one a line; - is standard input')
      .option('--oci-ref', 'keep the gzip layers as the data and make only an index into them; copies nothing')
      .option(
        '--dict <spec>',
        'refer to known chunks: of a lazy image, or sqlite:FILE, which grows (repeatable)',
        dictOption,
      )
      .addOption(
        new Option(
          '--as <form>',
          'lazy: the lazy image alone; index: one index with the original and the lazy manifests; referrer: lazy manifests that refer to the original image',
        )
          .choices(['lazy', 'index', 'referrer'])
          .default('lazy'),
      )
      .addOption(
        new Option(
          '--dedup <how>',
          'merge: every blob is whole; image: upper blobs leave out what lower ones have (default: merge)',
        ).choices(['merge', 'image']),
      );
  },
  async run(context, args, options) {
    const { prefetch, platform, dict, ...choices } = options as unknown as Options;
    const target = targetOf(args, choices.as);
    const sides = await sideOptions(context, options, args[0]!, target);
    const result = await convert(args[0]!, target, {
      ...choicesOf(choices),
      ...(platform === undefined || platform.length === 0 ? {} : { platforms: platform }),
      ...(dict === undefined ? {} : { dicts: dict }),
      ...(prefetch === undefined ? {} : { prefetch: await readList(prefetch) }),
      ...sides,
      log: context.log,
      onProgress: context.onProgress,
      signal: context.signal,
    });
    const document = { schema: 'lacuna.convert.v1', ...result };
    return { document, text: describe(result), toStderr: isStream(parseReference(result.target)) };
  },
};

/** Those of the command line's options that are choices of the conversion. */
function choicesOf(options: Omit<Options, 'prefetch' | 'platform' | 'dict'>): ConvertOptions {
  const { chunkSize, compressor, level, digester, batchSize, blob, align, ociRef, dedup, as } = options;
  const given = { compressor, level, digester, batchSize, blob, align, ociRef, dedup, as };
  return { chunkSize, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

function targetOf([source, target]: readonly string[], as: TargetForm): string {
  if (target !== undefined) return target;
  if (as === 'referrer') return source!;
  throw new LacunaError('USAGE', 'no target is named', { op: 'convert', hint: 'lacuna convert SOURCE TARGET' });
}

function describe(result: Awaited<ReturnType<typeof convert>>): string {
  const lines = result.images.map((image) => {
    const before = image.layers.reduce((sum, layer) => sum + layer.sourceSize, 0);
    const after = image.layers.reduce((sum, layer) => sum + layer.blobSize + layer.metaSize, image.bootstrap.size);
    const line = `${image.platform}: ${image.layers.length} layers, ${megabytes(before)} -> ${megabytes(after)} MB`;
    return [line, ...image.dictionary.map(describeReferred)].join('\n');
  });
  return [...lines, `${result.target}@${result.digest}`].join('\n');
}

const describeReferred = ({ blob, access, chunks, savedBytes }: ImageReport['dictionary'][number]): string =>
  `  refers to ${blob} (${access}): ${chunks} chunks, ${megabytes(savedBytes)} MB not stored again`;

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
