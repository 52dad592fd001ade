/** `lacuna inspect IMAGE`. */
import type { Command } from 'commander';
import { type Inspection, inspect } from '../reader/inspect.ts';
import { openOptions, withImage } from './image-options.ts';
import { megabytes } from './output.ts';
import type { Verb } from './verb.ts';

export const verb: Verb = {
  name: 'inspect',
  summary: 'show what an image consists of: layers, blobs, chunks, sizes',
  configure(command: Command): void {
    withImage(command);
  },
  async run(context, args, options) {
    const result = await inspect(args[0]!, await openOptions(context, options));
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
