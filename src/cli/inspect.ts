/** `lacuna inspect IMAGE`. */
import type { Command } from 'commander';
import { type Inspection, inspect } from '../reader/inspect.ts';
import { storeOptions, withRegistryOptions } from './registry-options.ts';
import type { Verb } from './verb.ts';

export const verb: Verb = {
  name: 'inspect',
  summary: 'show what an image consists of: layers, blobs, chunks, sizes',
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<image>', 'docker://HOST/NAME:TAG, oci:DIR:REF, rafs:BOOTSTRAP[,blobs=DIR], or a bare name')
      .option('--platform <os/arch>', 'which one of a multi-platform image');
  },
  async run(context, args, options) {
    const platform = options.platform as string | undefined;
    const result = await inspect(args[0]!, {
      store: await storeOptions(context, options),
      signal: context.signal,
      ...(platform === undefined ? {} : { platform }),
    });
    return { document: { schema: 'lacuna.inspect.v1', ...result }, text: describe(result) };
  },
};

function describe({ reference, kind, manifest, config, bootstrap }: Inspection): string {
  const lines = [`${reference}: ${kind === 'lazy' ? 'a lazy image' : 'an ordinary image'}`];
  if (config !== null) lines.push(`platform   ${config.os}/${config.architecture}`);
  if (manifest !== null) {
    lines.push(`manifest   ${manifest.digest}`);
    for (const layer of manifest.layers)
      lines.push(`${layer.role.padEnd(10)} ${layer.digest} ${megabytes(layer.size)}`);
    for (const [name, value] of Object.entries(manifest.annotations)) lines.push(`annotation ${name}=${value}`);
  }
  if (bootstrap !== null) lines.push(...describeBootstrap(bootstrap));
  return lines.join('\n');
}

function describeBootstrap({ chunkSize, blobs, tree }: NonNullable<Inspection['bootstrap']>): string[] {
  const lines = blobs.map(
    (blob) =>
      `blob       ${blob.id.slice(0, 12)} ${blob.compressor}, ${blob.digester}, ${blob.usedChunks} of ${blob.chunks} chunks used: ` +
      `${megabytes(blob.usedCompressed)} for ${megabytes(blob.usedUncompressed)} plain`,
  );
  lines.push(
    `tree       ${tree.regularFiles} files, ${tree.directories} directories, ${tree.symlinks} symlinks, ${tree.others} others; ${megabytes(tree.bytes)}`,
    `chunks     ${tree.chunks} of at most ${chunkSize / 1024} KiB, ${megabytes(tree.sharedBytes)} saved by sharing them`,
  );
  return lines;
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
