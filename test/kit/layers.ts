/** Reads OCI layouts of the fixtures without any of our registry code: layers → trees, with the content of every file. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { checkout } from '#cache';
import { listTree } from '../../src/inspect/entries.ts';
import { LayerBuilder, type LayerTree } from '../../src/tree/layer.ts';
import type { FileNode } from '../../src/tree/node.ts';
import { type TarEntry, type TarHandler, TarParser } from '../../src/tree/tar.ts';
import type { Row } from './tree.ts';

export const fixture = (...path: string[]): string => join(checkout, 'test/fixtures', ...path);

export const zstdDecompress = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('zstd-napi') as { decompress(data: Buffer): Buffer }).decompress(data);

export const zstdCompress = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('zstd-napi') as { compress(data: Buffer): Buffer }).compress(data);

interface Blob {
  readonly mediaType: string;
  readonly digest: string;
}

export const layoutBlob = (layout: string, digest: string): Buffer =>
  readFileSync(fixture(layout, 'blobs', 'sha256', digest.slice('sha256:'.length)));

/** The tars of the layers of `ref`, lowest first. */
export function layerTars(layout: string, ref: string): Buffer[] {
  const index = JSON.parse(readFileSync(fixture(layout, 'index.json'), 'utf8'));
  const found = index.manifests.find(
    (entry: { annotations: Record<string, string> }) => entry.annotations['org.opencontainers.image.ref.name'] === ref,
  );
  const manifest = JSON.parse(layoutBlob(layout, found.digest).toString());
  return manifest.layers.map(({ mediaType, digest }: Blob) => {
    const data = layoutBlob(layout, digest);
    if (mediaType.endsWith('gzip')) return gunzipSync(data);
    return mediaType.endsWith('zstd') ? zstdDecompress(data) : data;
  });
}

/** Content of the regular files of a tree. */
export type Contents = Map<FileNode, Buffer>;

/** Collects content by node; also shows that a handler may take content piece by piece. */
class Collector implements TarHandler {
  readonly builder = new LayerBuilder('fixture');
  readonly contents: Contents = new Map();
  #node: FileNode | null = null;
  #pieces: Buffer[] = [];

  entry(entry: TarEntry): void {
    this.#node = this.builder.add(entry);
    this.#pieces = [];
    if (this.#node !== null) this.contents.set(this.#node, Buffer.alloc(0));
  }

  content(buffer: Buffer, start: number, available: number, remaining: number): number {
    this.#pieces.push(Buffer.from(buffer.subarray(start, start + available)));
    if (available === remaining && this.#node !== null) this.contents.set(this.#node, Buffer.concat(this.#pieces));
    return available;
  }
}

/** Parses a tar, pushed in pieces of `step` bytes at most, as a caller with a carried rest would. */
export function parseLayer(tar: Buffer, step = tar.length): { tree: LayerTree; contents: Contents } {
  const collector = new Collector();
  feed(new TarParser(collector, { subject: 'fixture' }), tar, step);
  return { tree: collector.builder.finish(), contents: collector.contents };
}

/** Pushes `tar` in pieces through a buffer that carries the rest, and finishes. */
export function feed(parser: TarParser, tar: Buffer, step: number): void {
  let rest = Buffer.alloc(0);
  for (let at = 0; at < tar.length; at += step) {
    const buffer = Buffer.concat([rest, tar.subarray(at, at + step)]);
    rest = buffer.subarray(parser.push(buffer, 0, buffer.length));
    while (parser.isInHole) rest = rest.subarray(parser.push(rest, 0, rest.length));
  }
  parser.finish(rest.length);
}

/** The rows of a tree; with `contents`, also digests. */
export function rowsOf(root: FileNode, contents?: Contents): Row[] {
  return [...listTree(root, '/', { recursive: true })].map(({ row, node }) => {
    const content = contents?.get(node);
    return content === undefined ? row : { ...row, sha256: sha256(content) };
  });
}

export const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
