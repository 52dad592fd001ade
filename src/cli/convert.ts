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
import { LacunaError } from '../errors.ts';
import { isStream, parseReference } from '../image/reference.ts';
import type { CommandSpec } from './command.ts';
import { describeConversion } from './convert-report.ts';
import { dictOption, imageArgument } from './image-argument.ts';
import { platformsOption } from './platform-option.ts';
import { readList } from './read-list.ts';
import { SOURCE_FORMS, sideOptions, TARGET_FORMS, withSides } from './registry-options.ts';
import { sizeOption } from './size-option.ts';
import { writeWhole } from './write-file.ts';

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
  readonly force?: boolean;
  readonly records: boolean;
  readonly digestfile?: string;
  readonly metadataFile?: string;
}

export const command: CommandSpec = {
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
        'platforms of an index to convert: repeatable, or separated by commas (default: all)',
        platformsOption,
      )
      .addOption(
        new Option('--chunk-size <size>', 'size of a chunk, the unit of fetching and of deduplication')
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
        new Option('--digester <name>', 'digest of the chunks (default: blake3)').choices(Object.keys(DIGESTERS)),
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
        'reuse chunks of a lazy image, or of the database sqlite:FILE, to which the result is added (repeatable)',
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
      )
      .option('--force', 'convert again what an earlier conversion left in the target')
      .option('--no-records', 'do not record this conversion in the target; a later one then converts every layer')
      .option('--digestfile <file>', 'write the digest of the result to this file')
      .option('--metadata-file <file>', 'write the result to this file, as one JSON document');
  },
  async run(context, args, options) {
    const { prefetch, platform, dict, digestfile, metadataFile, ...choices } = options as unknown as Options;
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
    if (digestfile !== undefined) await writeWhole(digestfile, result.digest);
    if (metadataFile !== undefined) await writeWhole(metadataFile, `${JSON.stringify(document)}\n`);
    return { document, text: describeConversion(result), toStderr: isStream(parseReference(result.target)) };
  },
};

/** Those of the command line's options that are choices of the conversion. */
function choicesOf(
  options: Omit<Options, 'prefetch' | 'platform' | 'dict' | 'digestfile' | 'metadataFile'>,
): ConvertOptions {
  const { chunkSize, compressor, level, digester, batchSize, blob, align, ociRef, dedup, as, force, records } = options;
  const given = { compressor, level, digester, batchSize, blob, align, ociRef, dedup, as, force, records };
  return { chunkSize, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

function targetOf([source, target]: readonly string[], as: TargetForm): string {
  if (target !== undefined) return target;
  if (as === 'referrer') return source!;
  throw new LacunaError('USAGE', 'no target is named', { op: 'convert', hint: 'lacuna convert SOURCE TARGET' });
}
