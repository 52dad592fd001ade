/** `lacuna inspect IMAGE`. */
import type { Command } from 'commander';
import { type Inspection, inspect } from '../reader/inspect.ts';
import type { InspectedBlob, InspectedBootstrap } from '../reader/inspect-bootstrap.ts';
import { openOptions, withImage } from './image-options.ts';
import { describeStored, megabytes, shown } from './output.ts';
import type { Verb } from './verb.ts';

export const verb: Verb = {
  name: 'inspect',
  group: 'look',
  summary: 'show what an image consists of: layers, blobs, chunks, sizes',
  examples: ['lacuna inspect docker://registry.example/app:1-lazy', 'lacuna inspect oci:build:app --tree --json'],
  configure(command: Command): void {
    withImage(command)
      .option('--tree', 'also count files and what they share, and list what is prefetched (reads all metadata)')
      .option('--blobs', 'more about each blob: features, chunk info, table of contents')
      .option('--chunks', 'list every chunk');
  },
  async run(context, args, options) {
    const { tree = false, blobs = false, chunks = false } = options as Record<string, boolean | undefined>;
    const result = await inspect(args[0]!, { ...(await openOptions(context, options)), tree, chunks });
    return { document: { schema: 'lacuna.inspect.v1', ...result }, text: describe(result, blobs) };
  },
};

function describe({ reference, kind, manifest, config, bootstrap, size }: Inspection, blobs: boolean): string {
  const lines = [`${reference}: ${kind === 'lazy' ? 'a lazy image' : 'an ordinary image'}`];
  if (config !== null) lines.push(`platform   ${config.os}/${config.architecture}`);
  if (manifest !== null) {
    lines.push(`manifest   ${manifest.digest}`);
    for (const layer of manifest.layers)
      lines.push(`${layer.role.padEnd(10)} ${layer.digest} ${megabytes(layer.size)}`);
    lines.push(`size       ${megabytes(size!)} in ${manifest.layers.length} layers`);
    for (const [name, value] of Object.entries(manifest.annotations)) lines.push(`annotation ${name}=${shown(value)}`);
  }
  if (bootstrap !== null) lines.push(...describeBootstrap(bootstrap, blobs));
  return lines.join('\n');
}

function describeBootstrap(bootstrap: InspectedBootstrap, details: boolean): string[] {
  const { chunks, tree, prefetch, chunkList } = bootstrap;
  const lines = [
    `metadata   ${megabytes(bootstrap.size)}, ${(bootstrap.share * 100).toFixed(2)} % of the plain image; ${bootstrap.paths} paths`,
    `flags      ${bootstrap.flags.join(' ')}`,
    ...bootstrap.blobs.flatMap((blob) => [blobLine(blob), ...(details ? blobDetails(blob) : [])]),
  ];
  if (chunks !== null) {
    const stored = chunks.compressed === null ? '' : `, ${megabytes(chunks.compressed)} stored`;
    lines.push(
      `chunks     ${chunks.count} of at most ${bootstrap.chunkSize / 1024} KiB: ${megabytes(chunks.uncompressed)} plain${stored}`,
      `duplicates ${chunks.duplicates} chunks, ${megabytes(chunks.duplicateBytes)} plain, are stored again in another place`,
    );
  }
  lines.push(`prefetch   ${bootstrap.prefetchEntries} entries`);
  for (const path of prefetch ?? []) lines.push(`           ${shown(path)}`);
  if (tree !== null) {
    lines.push(
      `tree       ${tree.regularFiles} files, ${tree.directories} directories, ${tree.symlinks} symlinks, ${tree.others} others; ${megabytes(tree.bytes)}`,
      `sharing    ${megabytes(tree.sharedBytes)} that files have in common are stored once; ratio ${tree.dedupRatio.toFixed(3)}`,
    );
  }
  for (const chunk of chunkList ?? [])
    lines.push(`chunk      ${chunk.uncompressedOffset}+${chunk.size} ${describeStored(chunk)}`);
  return lines;
}

function blobLine(blob: InspectedBlob): string {
  const head = `blob       ${blob.id.slice(0, 12)} ${blob.compressor}, ${blob.digester}, ${megabytes(blob.compressedSize)}`;
  if (blob.usedChunks === null) return head;
  const stored = blob.usedCompressed === null ? '' : `${megabytes(blob.usedCompressed)} for `;
  return `${head}; ${blob.usedChunks} of ${blob.chunks} chunks used: ${stored}${megabytes(blob.usedUncompressed!)} plain`;
}

function blobDetails({ id, features, chunkSize, uncompressedSize, chunkInfo, toc }: InspectedBlob): string[] {
  const where = (file: string | null, offset: number) =>
    file === null ? `at ${offset}` : `in a file of its own, ${file}`;
  const info =
    chunkInfo === null
      ? 'none'
      : `${chunkInfo.size} bytes (${chunkInfo.compressor}) ${where(chunkInfo.file, chunkInfo.offset)}`;
  return [
    `  id       ${id}`,
    `  features ${features.join(' ')}`,
    `  device   ${megabytes(uncompressedSize)}, chunks of at most ${chunkSize / 1024} KiB`,
    `  info     ${info}`,
    `  toc      ${toc === null ? 'none' : `${toc.size} bytes, ${toc.digest}`}`,
  ];
}
