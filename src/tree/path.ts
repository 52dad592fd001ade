/**
 * Paths inside an image: byte strings relative to the root, `/` between components, `''` for the root itself.
 * Everything here is lexical; symlinks are the business of `resolve.ts`.
 */
import { FormatError } from '../errors.ts';
import { type ByteString, display } from './node.ts';

/** PATH_MAX of Linux; it also bounds the depth of a tree. */
export const MAX_PATH = 4096;
/** NAME_MAX of Linux. */
export const MAX_NAME = 255;
/** As deep as MAX_PATH allows: every component takes a byte and a slash. */
export const MAX_DEPTH = MAX_PATH / 2;

/** An empty, `.` or `..` component, anywhere. */
const UNUSUAL = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** Prefix of a name that stands for the absence of another one (OCI image-spec, layer.md, "Whiteouts"). */
export const WHITEOUT = '.wh.';

/**
 * A name as archives have them (`./a//b/`, `/a/b`, `../a`) as a path relative to the root, whose parent is itself.
 * Throws FormatError when something is too long or holds a NUL; of a whiteout the name that it hides counts.
 */
export function normalizePath(name: ByteString, field: string, subject: string): ByteString {
  const end = name.length > 1 && name.charCodeAt(name.length - 1) === 47 ? name.length - 1 : name.length;
  const start = name.charCodeAt(0) === 46 && name.charCodeAt(1) === 47 ? 2 : 0;
  let path = start < end ? name.slice(start, end) : '';
  if (path !== '' && UNUSUAL.test(path)) path = withoutDots(path);
  if (path.length > MAX_PATH) throw new FormatError(field, `longer than ${MAX_PATH} bytes`, { subject });
  if (path.length > MAX_NAME && longestName(path) > MAX_NAME) {
    throw new FormatError(field, `a component is longer than ${MAX_NAME} bytes`, { subject });
  }
  if (path.includes('\0')) throw new FormatError(field, `${quote(path)} holds a NUL byte`, { subject });
  return path;
}

function longestName(path: ByteString): number {
  const lengths = path.split('/').map((part) => part.length);
  const isWhiteout = path.startsWith(WHITEOUT, path.lastIndexOf('/') + 1);
  if (isWhiteout) lengths.push(lengths.pop()! - WHITEOUT.length);
  return Math.max(...lengths);
}

function withoutDots(path: ByteString): ByteString {
  const parts: ByteString[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** A name for error messages: readable, quoted, not longer than a line. */
export function quote(name: ByteString): string {
  const text = display(name);
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
