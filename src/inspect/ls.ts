/** `ls`: the paths of an image, row by row. */
import { LacunaError } from '../errors.ts';
import type { DigestsOptions, OpenedImage, OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import type { ImageInput } from '../registry/source.ts';
import { bytesOf, display, fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import { batchesOf, HASHED_TOGETHER } from './batches.ts';
import { type Listed, listTree, type Row } from './entries.ts';

/** Options of {@link ls}. */
export interface LsOptions extends OpenImageOptions {
  /** A directory, or one file; default `/`. Symlinks in the middle are followed. */
  readonly path?: string;
  /** Also what is below the directories of `path`. Default false. */
  readonly recursive?: boolean;
  /** Add the sha256 of every regular file's content, which has to be fetched. Default false. */
  readonly digests?: boolean;
  /** Add the digest of the layer that each path is from, when the image records it. Default false. */
  readonly layers?: boolean;
}

/** The rows of an image, sorted bytewise by path. NOT_FOUND when there is no such path in it. */
export async function* ls(image: ImageInput, options: LsOptions = {}): AsyncGenerator<Row> {
  await using opened = await openImage(image, options);
  const from = resolvePath(opened.root, fromText(options.path ?? '/'), false, opened.subject);
  if (from === null) throw noSuchPath(options.path ?? '/', opened.subject);
  const all = listTree(opened.root, from.path, { recursive: options.recursive ?? false });
  const listed = options.layers === true ? withLayers(opened, all) : all;
  if (options.digests === true) yield* withDigests(opened, listed, options);
  else for (const { row } of listed) yield row;
}

export const noSuchPath = (path: string, subject: string): LacunaError =>
  new LacunaError('NOT_FOUND', `${JSON.stringify(path)} is not in the image`, { op: 'read', subject });

/** Rows in order. Files are hashed many at a time, in the order of the blobs. */
async function* withDigests(image: OpenedImage, rows: Iterable<Listed>, options: DigestsOptions): AsyncGenerator<Row> {
  for (const batch of batchesOf(rows, HASHED_TOGETHER)) {
    const files = batch.flatMap(({ node }) => (node.type === 'reg' ? [node] : []));
    const digests = await image.digests(files, options);
    for (const { row, node } of batch) yield node.type === 'reg' ? withDigest(row, digests.get(node)!) : row;
  }
}

function* withLayers(image: OpenedImage, rows: Iterable<Listed>): Generator<Listed> {
  for (const { path, node, row } of rows) {
    const layer = image.layerOf({ path: display(path), pathBytes: bytesOf(path), node });
    yield { path, node, row: layer === null ? row : { ...row, layer: layer.digest } };
  }
}

/** The digest comes before the link group, as in the format's description. */
function withDigest({ link_group, ...row }: Row, sha256: string): Row {
  return link_group === undefined ? { ...row, sha256 } : { ...row, sha256, link_group };
}
