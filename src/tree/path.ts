/**
 * Paths inside an image: byte strings relative to the root, `/` between components, `''` for the root itself.
 * All functions are lexical; `resolve.ts` follows symlinks.
 */
import { FormatError } from '../errors.ts';
import { type ByteString, display } from './node.ts';

/** Maximum length of a path, as PATH_MAX of Linux; it also bounds the depth of a tree. */
export const MAX_PATH = 4096;
/** Maximum length of a name, as NAME_MAX of Linux. */
export const MAX_NAME = 255;
/** Maximum depth of a tree that MAX_PATH allows: every component takes a byte and a slash. */
export const MAX_DEPTH = MAX_PATH / 2;

/** Matches an empty, `.` or `..` component. */
const UNUSUAL = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** Prefix of whiteouts, names that hide another name (OCI image-spec, layer.md, "Whiteouts"). */
export const WHITEOUT = '.wh.';

/**
 * Turns a name of an archive (`./a//b/`, `/a/b`, `../a`) into a path relative to the root; the root's parent is the root.
 * Throws FormatError when it is too long or contains a NUL. The prefix of whiteouts does not count.
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
  if (path.includes('\0')) throw new FormatError(field, `${quote(path)} contains a NUL byte`, { subject });
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

/** Quotes a name for error messages, as text of at most one line. */
export function quote(name: ByteString): string {
  const text = display(name);
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
