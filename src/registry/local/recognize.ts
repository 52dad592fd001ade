/**
 * Detects the kind of image in a file or directory, for a name without a transport: an existing path would be
 * taken for a repository of Docker Hub, so the error names the reference that was meant before any request is made.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isLacunaError, LacunaError } from '../../errors.ts';
import { hasTransport, nearTransport } from '../../image/reference-text.ts';
import { READ_FLAGS } from '../../open-file.ts';
import { BLOCK, decodeHeader, isZeroBlock } from '../../tree/tarheader.ts';

type ImageKind = readonly [what: string, transport: string];

/**
 * Maximum members that are read. Archives have three members per layer, and the one that identifies them may be last.
 */
const MAX_MEMBERS = 10_000;

/** Magic bytes at an offset → the kind of file. */
const MAGIC: readonly (readonly [offset: number, bytes: string, kind: ImageKind])[] = [
  [0, '53514c69746520666f726d6174203300', ['a dictionary of chunks', 'sqlite']],
  [0, '1f8b', ['a compressed archive', 'docker-archive']],
  [0, '28b52ffd', ['a compressed archive', 'docker-archive']],
  [1024, 'e2e1f5e0', ['a RAFS bootstrap', 'rafs']],
];

/** Names that only files have, and no repository. */
const FILE_NAME = /^(?:\.{0,2}\/|~|[^/:]+\.(?:tar|tgz|tar\.gz|tar\.zst|db|sqlite3?)(?=$|:))/;

/** Throws REFERENCE when `text`, which names an image, is or can only be a path. Reads the beginning of the file. */
export function refuseBarePath(text: string): void {
  if (hasTransport(text)) return;
  const [path, ref] = splitPath(text);
  const kind = existsSync(path) ? lookInto(path) : null;
  if (kind !== null) throw refusal(text, `is ${kind[0]}, which needs its transport`, `${kind[1]}:${path}${ref}`);
  const near = nearTransport(text);
  if (near !== null && ref !== '' && existsSync(ref.slice(1).split(':')[0]!)) {
    throw refusal(text, 'names a path after an unknown transport', `did you mean ${near}?`);
  }
  if (!FILE_NAME.test(text)) return;
  const forms =
    'an image: oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR, docker://HOST/NAME; a dictionary: sqlite:FILE';
  if (existsSync(path)) throw refusal(text, 'is a path, but there is no image in it', forms);
  throw refusal(text, 'looks like a path, but does not exist', forms);
}

function refusal(text: string, problem: string, hint: string): LacunaError {
  return new LacunaError('REFERENCE', `${JSON.stringify(text)} ${problem}`, {
    op: 'parse reference',
    subject: text,
    hint: `${hint}${/^[a-z]/.test(text) ? ` (or docker://${text} for the repository)` : ''}`,
  });
}

/** Splits `text` at its first colon, unless all of it is an existing path. */
function splitPath(text: string): [path: string, ref: string] {
  const colon = text.indexOf(':');
  return colon < 0 || existsSync(text) ? [text, ''] : [text.slice(0, colon), text.slice(colon)];
}

/** The kind of a file or directory; null when it is unknown or cannot be read. */
function lookInto(path: string): ImageKind | null {
  try {
    const stat = statSync(path);
    if (stat.isDirectory()) return directory(path);
    if (!stat.isFile()) return null;
    const file = openSync(path, READ_FLAGS);
    try {
      return magic(file) ?? archive(file, path);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error) return null;
    throw error;
  }
}

function directory(path: string): ImageKind | null {
  if (existsSync(join(path, 'oci-layout'))) return ['an OCI layout', 'oci'];
  const isDir = existsSync(join(path, 'manifest.json')) && existsSync(join(path, 'version'));
  return isDir ? ['an image in a directory', 'dir'] : null;
}

function magic(file: number): ImageKind | null {
  for (const [offset, hex, kind] of MAGIC) {
    const bytes = Buffer.alloc(hex.length / 2);
    readSync(file, bytes, 0, bytes.length, offset);
    if (bytes.toString('hex') === hex) return kind;
  }
  return null;
}

function archive(file: number, path: string): ImageKind | null {
  const block = Buffer.alloc(BLOCK);
  const names = new Set<string>();
  let offset = 0;
  for (let count = 0; count < MAX_MEMBERS; count++) {
    if (readSync(file, block, 0, BLOCK, offset) < BLOCK || isZeroBlock(block, 0)) break;
    const header = headerOf(block, offset, path);
    if (header === null) break;
    names.add(header.name.replace(/^\.\//, ''));
    offset += BLOCK + Math.ceil(header.size / BLOCK) * BLOCK;
  }
  if (names.has('oci-layout')) return ['an OCI archive', 'oci-archive'];
  return names.has('manifest.json') || names.has('repositories')
    ? ['an archive of docker save', 'docker-archive']
    : null;
}

function headerOf(block: Buffer, offset: number, path: string): { name: string; size: number } | null {
  try {
    return decodeHeader(block, 0, offset, path);
  } catch (error) {
    if (isLacunaError(error)) return null;
    throw error;
  }
}
