/** `lacuna inspect IMAGE`. */
import type { Command } from 'commander';
import type { ImageConfig } from '../image/manifest.ts';
import type { InspectedBlob, InspectedBootstrap } from '../inspect/bootstrap.ts';
import { type Inspection, inspect } from '../inspect/inspect.ts';
import type { InspectedLayer } from '../inspect/manifest.ts';
import type { InspectedEntry, InspectedTag } from '../inspect/tag.ts';
import { alignColumns, humanBytes } from '../observe/human.ts';
import { printable } from '../printable.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';
import { describeStored, shown } from './output.ts';

export const command: CommandSpec = {
  name: 'inspect',
  group: 'look',
  summary: 'show what an image consists of: layers, blobs, chunks, sizes',
  examples: ['lacuna inspect docker://registry.example/app:1-lazy', 'lacuna inspect oci:build:app --tree --json'],
  configure(command: Command): void {
    withImage(command)
      .option(
        '--tree',
        'also count files, what they share and which layer they are from, and list what is prefetched (reads all metadata; of an ordinary image all layers)',
      )
      .option('--blobs', 'more about each blob: features, chunk info, table of contents')
      .option('--chunks', 'list every chunk')
      .option('--history', 'also how the image was built, step by step');
  },
  async run(context, args, options) {
    const {
      tree = false,
      blobs = false,
      chunks = false,
      history = false,
    } = options as Record<string, boolean | undefined>;
    const result = await inspect(args[0]!, { ...(await openOptions(context, options)), tree, chunks });
    return { document: { schema: 'lacuna.inspect.v1', ...result }, text: describe(result, { blobs, history }) };
  },
};

interface Shown {
  readonly blobs: boolean;
  readonly history: boolean;
}

function describe(result: Inspection, show: Shown): string {
  const { reference, kind, tag, manifest, config, bootstrap, size, shares } = result;
  const lines = [`${reference}: ${kind === 'lazy' ? 'a lazy image' : 'an ordinary image'}`];
  if (tag !== null && manifest !== null) lines.push(...describeTag(tag, manifest.digest));
  if (config !== null) lines.push(...describeConfig(config, show.history));
  if (manifest !== null) {
    lines.push(`manifest   ${manifest.digest}`);
    for (const [name, value] of Object.entries(manifest.annotations)) lines.push(`annotation ${name}=${shown(value)}`);
    lines.push(`size       ${humanBytes(size!)} in ${manifest.layers.length} layers`);
  }
  const blobs = bootstrap?.blobs ?? [];
  lines.push(...layerLines(manifest?.layers ?? [], blobs));
  if (bootstrap !== null) lines.push(...describeBootstrap(bootstrap, show.blobs));
  if (shares !== null) lines.push(...describeShares(shares));
  // A name with a line end must not look like two names.
  return lines.map(printable).join('\n');
}

/** Visible paths by the layer that they are from, lowest first. */
const describeShares = (shares: NonNullable<Inspection['shares']>): string[] =>
  alignColumns(
    shares.map(({ digest, paths, bytes }) => [`seen of    ${digest}`, `${paths} paths`, humanBytes(bytes)]),
    [1, 2],
  );

/** The target of the tag, when it is more than the manifest that is shown. */
function describeTag({ kind, digest, manifests, referrers, shown: how }: InspectedTag, chosen: string): string[] {
  const lines: string[] = [];
  if (kind === 'index') lines.push(`index      ${digest}, ${manifests.length} manifests`);
  else if (how === 'referrer') lines.push(`tag        ${digest}, an ordinary image`);
  const entries = manifests.map((entry) => [
    `           ${entry.digest}`,
    entry.platform ?? '-',
    entryText(entry),
    entry.digest === chosen ? '<- shown here' : '',
  ]);
  lines.push(...alignColumns(entries));
  if (how === 'referrer') lines.push('shown      the lazy image that refers to it (--no-referrers: the image itself)');
  for (const { digest: from, artifactType, size } of referrers ?? []) {
    lines.push(
      `referrer   ${from}  ${artifactType ?? '-'}  ${humanBytes(size)}${from === chosen ? '  <- shown here' : ''}`,
    );
  }
  return lines;
}

function entryText({ kind, artifactType, about }: InspectedEntry): string {
  if (kind === 'attestation') return about === null ? kind : `attestation of ${about.slice(0, 19)}`;
  return kind === 'artifact' && artifactType !== null ? artifactType : kind === 'lazy' ? 'lazy image' : kind;
}

/** As skopeo and umoci show it: what a container is started with. */
function describeConfig(config: ImageConfig, history: boolean): string[] {
  const { Entrypoint, Cmd, User, WorkingDir, Env, Labels } = (config.config ?? {}) as Record<string, unknown>;
  const lines = [
    `platform   ${config.os}/${config.architecture}${config.variant === undefined ? '' : `/${config.variant}`}`,
  ];
  const add = (name: string, value: unknown): void => {
    if (value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0)) return;
    lines.push(`${name.padEnd(10)} ${typeof value === 'string' ? shown(value) : JSON.stringify(value)}`);
  };
  add('created', config.created);
  add('author', config.author);
  add('entrypoint', Entrypoint);
  add('cmd', Cmd);
  add('user', User);
  add('workdir', WorkingDir);
  for (const variable of Array.isArray(Env) ? Env : []) add('env', variable);
  const labels = typeof Labels === 'object' && Labels !== null ? Object.entries(Labels) : [];
  for (const [name, value] of labels) add('label', `${name}=${value}`);
  for (const step of history ? (config.history ?? []) : []) {
    const what = (step.created_by ?? step.comment ?? '').replace(/\s+/g, ' ').trim();
    add('history', `${step.created ?? '-'}  ${step.empty_layer === true ? '(no layer) ' : ''}${what}`);
  }
  return lines;
}

/** Layers in the manifest's order, each with its blob in the bootstrap, then blobs of other images. */
function layerLines(layers: readonly InspectedLayer[], blobs: readonly InspectedBlob[]): string[] {
  const byDigest = new Map(blobs.map((blob) => [`sha256:${blob.id}`, blob]));
  const rows = layers.map(({ role, compression, digest, size }) => {
    const blob = byDigest.get(digest);
    byDigest.delete(digest);
    const name = role === 'tar' && compression !== 'none' ? `tar+${compression}` : role;
    return [name.padEnd(10), digest, humanBytes(size), blob === undefined ? '' : blobText(blob)];
  });
  for (const [digest, blob] of byDigest)
    rows.push(['blob      ', digest, humanBytes(blob.compressedSize), blobText(blob)]);
  return alignColumns(rows, [2]).map((line) => line.replace('  ', ' '));
}

function blobText({ compressor, digester, chunks, usedChunks, usedUncompressed, ...blob }: InspectedBlob): string {
  const parts = [`${compressor}, ${digester}`];
  if (usedChunks !== null) parts.push(`${usedChunks} of ${chunks} chunks used, ${humanBytes(usedUncompressed!)} plain`);
  const { unusedCompressed: unused, compressedSize } = blob;
  if (unused !== null && unused > 0 && usedChunks !== chunks)
    parts.push(`${humanBytes(unused)} of ${humanBytes(compressedSize)} are unused`);
  return parts.join('; ');
}

function describeBootstrap(bootstrap: InspectedBootstrap, details: boolean): string[] {
  const { chunks, tree, prefetch, prefetchEntries, chunkList } = bootstrap;
  const lines = [
    `metadata   ${humanBytes(bootstrap.size)}, ${(bootstrap.share * 100).toFixed(2)} % of the plain image; ${bootstrap.paths} paths`,
    `flags      ${bootstrap.flags.join(' ')}`,
  ];
  for (const blob of details ? bootstrap.blobs : []) lines.push(...blobDetails(blob));
  if (chunks !== null) {
    const stored = chunks.compressed === null ? '' : `, ${humanBytes(chunks.compressed)} stored`;
    lines.push(
      `chunks     ${chunks.count} of at most ${bootstrap.chunkSize / 1024} KiB: ${humanBytes(chunks.uncompressed)} plain${stored}`,
    );
    if (chunks.duplicates > 0) {
      lines.push(
        `duplicates ${chunks.duplicates} chunks, ${humanBytes(chunks.duplicateBytes)} plain, are stored again in another place`,
      );
    }
  }
  if (prefetchEntries > 0) lines.push(`prefetch   ${prefetchEntries} ${prefetchEntries === 1 ? 'entry' : 'entries'}`);
  for (const path of prefetch ?? []) lines.push(`           ${shown(path)}`);
  if (tree !== null) {
    lines.push(
      `tree       ${tree.regularFiles} files, ${tree.directories} directories, ${tree.symlinks} symlinks, ${tree.others} others; ${humanBytes(tree.bytes)}`,
      `sharing    ${humanBytes(tree.sharedBytes)} that files have in common are stored once; ratio ${tree.dedupRatio.toFixed(3)}`,
    );
  }
  for (const chunk of chunkList ?? [])
    lines.push(`chunk      ${chunk.uncompressedOffset}+${chunk.size} ${describeStored(chunk)}`);
  return lines;
}

function blobDetails({ id, features, chunkSize, uncompressedSize, chunkInfo, toc }: InspectedBlob): string[] {
  const where = (file: string | null, offset: number) =>
    file === null ? `at ${offset}` : `in a file of its own, ${file}`;
  const info =
    chunkInfo === null
      ? 'none'
      : `${chunkInfo.size} bytes (${chunkInfo.compressor}) ${where(chunkInfo.file, chunkInfo.offset)}`;
  return [
    `blob       ${id}`,
    `  features ${features.join(' ')}`,
    `  device   ${humanBytes(uncompressedSize)}, chunks of at most ${chunkSize / 1024} KiB`,
    `  info     ${info}`,
    `  toc      ${toc === null ? 'none' : `${toc.size} bytes, ${toc.digest}`}`,
  ];
}
