/** `lacuna unpack IMAGE TARGET`. */
import { type Command, Option } from 'commander';
import { isStream, parseReference, STREAM } from '../image/reference.ts';
import type { Skipped, UnpackOptions } from '../unpack/options.ts';
import type { CliContext, CommandSpec } from './command.ts';
import { imageChoices, withImage } from './image-options.ts';
import { sideOptions, withSides } from './registry-options.ts';

type Options = Pick<UnpackOptions, 'format' | 'layers' | 'compress' | 'rootless'>;

export const command: CommandSpec = {
  name: 'unpack',
  group: 'build',
  summary: 'make a directory, a tar or an ordinary image of a lazy (or any) image',
  examples: [
    'lacuna unpack docker://registry.example/app:1-lazy app/',
    'lacuna unpack oci:build:app app.tar',
    'lacuna unpack docker://registry.example/app:1-lazy oci:build:app --layers  # the original again',
  ],
  configure(command: Command): void {
    withImage(command, undefined, withSides)
      .argument(
        '<target>',
        'a new or empty directory; a tar file, named *.tar or with --format tar, or - for standard output; or an ' +
          'image: ' +
          'docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF, docker-archive:FILE:NAME:TAG, dir:DIR',
      )
      .addOption(
        new Option('--format <form>', 'form of the target (default: inferred from its name)').choices([
          'dir',
          'tar',
          'image',
        ]),
      )
      .option(
        '--layers',
        'copy the layers of the original, which must be where the lazy image is (default: one merged layer)',
      )
      .addOption(
        new Option(
          '--compress <how>',
          'compression of the merged layer (default: gzip; none for docker-archive:)',
        ).choices(['gzip', 'none']),
      )
      .option('--rootless', 'leave owners and devices out of a directory (default: if not run as root)');
  },
  async run(context, [image, target], raw) {
    const { unpack } = await import('../unpack/unpack.ts');
    const { format, layers, compress, rootless } = raw as Options;
    // A bare name is a directory here.
    const isImage = format === 'image' || target!.startsWith('docker://');
    const sides = await sideOptions(context, raw, image!, isImage ? target! : '');
    const result = await unpack(image!, target!, {
      ...imageChoices(context, raw),
      store: sides.source,
      target: sides.target,
      ...(format === undefined ? {} : { format }),
      ...(layers === undefined ? {} : { layers }),
      ...(compress === undefined ? {} : { compress }),
      ...(rootless === undefined ? {} : { rootless }),
      onProgress: context.onProgress,
    });
    warn(context, result.skipped);
    const text = result.digest === null ? result.target : `${result.target}@${result.digest}`;
    const isArchive = result.format === 'image' && isStream(parseReference(result.target));
    const document = { schema: 'lacuna.unpack.v1', ...result };
    return { document, text, toStderr: isArchive || (result.format === 'tar' && target === STREAM) };
  },
};

const WHAT: Readonly<Record<keyof Skipped, string>> = {
  owners: 'entries belong to you instead of their owners',
  devices: 'device nodes were not made',
  xattrs: 'extended attributes could not be kept',
  sockets: 'sockets were left out',
};

function warn({ log }: CliContext, skipped: Skipped): void {
  for (const [field, count] of Object.entries(skipped) as Array<[keyof Skipped, number]>) {
    if (count > 0) log.warn({ count }, WHAT[field]);
  }
}
