/** Patterns as find(1) and fnmatch(3) have them, by picomatch: `*`, `?`, `[…]`; no braces, no alternatives. */
import picomatch from 'picomatch';
import { LacunaError } from '../errors.ts';
import { type ByteString, bytesOf } from '../tree/node.ts';

/** Whether a name (or path) matches the whole pattern. `*` and `?` match a leading dot, `*` also slashes. */
export type Matches = (name: ByteString) => boolean;

/** As long as a path can be. */
const MAX_PATTERN = 4096;

const OPTIONS = {
  // One star reaches over slashes, as in `find -path`.
  bash: true,
  dot: true,
  flags: 's',
  maxLength: MAX_PATTERN * 2,
  nobrace: true,
  noextglob: true,
  nonegate: true,
  posix: true,
  windows: false,
} as const;

/** USAGE for what is no pattern. */
export function globOf(pattern: string): Matches {
  if (pattern === '' || pattern.length > MAX_PATTERN) {
    throw new LacunaError('USAGE', `a pattern of ${pattern.length} characters`, {
      op: 'find',
      subject: pattern.slice(0, 80),
    });
  }
  // To picomatch these are more than characters; what is escaped already stays.
  const literal = pattern.replace(/\\.|["()]/gs, (found) => (found.length > 1 ? found : `\\${found}`));
  const expression = picomatch.makeRe(literal, OPTIONS);
  return (name) => expression.test(textOf(name));
}

/** A name as characters, so that `?` is one of them; as bytes where they are no UTF-8. */
function textOf(name: ByteString): string {
  const bytes = bytesOf(name);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : name;
}
