/** `ls`: what is in an image, row by row. */
import { LacunaError } from '../errors.ts';
import { fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import type { OpenedImage, OpenImageOptions } from './image.ts';
import { openImage } from './open.ts';
import { type Listed, listTree, type Row } from './rows.ts';

export interface LsOptions extends OpenImageOptions {
  /** A directory, or one file; default `/`. Symlinks in the middle are followed. */
  readonly path?: string;
  /** Also what is below the directories of `path`. Default false. */
  readonly recursive?: boolean;
  /** Add the sha256 of every regular file's content, which has to be fetched. Default false. */
  readonly digests?: boolean;
}

/** Files that are fetched and hashed at once. */
const HASHED_AT_ONCE = 8;

/** The rows of an image, sorted bytewise by path. NOT_FOUND when there is no such path in it. */
export async function* ls(reference: string, options: LsOptions = {}): AsyncGenerator<Row> {
  await using image = await openImage(reference, options);
  const from = resolvePath(image.root, fromText(options.path ?? '/'), false, image.subject);
  if (from === null) throw noSuchPath(options.path ?? '/', image.subject);
  const listed = listTree(image.root, from.path, { recursive: options.recursive ?? false });
  if (options.digests === true) yield* withDigests(image, listed, options.signal);
  else for (const { row } of listed) yield row;
}

export const noSuchPath = (path: string, subject: string): LacunaError =>
  new LacunaError('NOT_FOUND', `${JSON.stringify(path)} is not in the image`, { op: 'read', subject });

/** Rows in order, their digests made a few at a time; names of one inode are read once. */
async function* withDigests(image: OpenedImage, rows: Iterable<Listed>, signal?: AbortSignal): AsyncGenerator<Row> {
  const stop = new AbortController();
  const both = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const known = new Map<Listed['node'], Promise<string>>();
  const digestOf = (node: Listed['node']): Promise<string> => {
    const digest = known.get(node) ?? image.digest(node, { signal: both });
    known.set(node, digest);
    // Its error comes up when its row is due.
    digest.catch(() => {});
    return digest;
  };
  const waiting: Array<{ row: Row; digest: Promise<string> | null }> = [];
  const next = async (): Promise<Row> => {
    const { row, digest } = waiting.shift()!;
    return digest === null ? row : withDigest(row, await digest);
  };
  try {
    for (const { row, node } of rows) {
      waiting.push({ row, digest: node.type === 'reg' ? digestOf(node) : null });
      if (waiting.length >= HASHED_AT_ONCE) yield await next();
    }
    while (waiting.length > 0) yield await next();
  } finally {
    stop.abort();
  }
}

/** The digest comes before the link group, as in the format's description. */
function withDigest({ link_group, ...row }: Row, sha256: string): Row {
  return link_group === undefined ? { ...row, sha256 } : { ...row, sha256, link_group };
}
