/** Patterns as find(1) and fnmatch(3) have them, by minimatch: `*`, `?`, `[…]`; no braces, no alternatives. */
import { Minimatch } from 'minimatch';
import { LacunaError } from '../errors.ts';
import { type ByteString, bytesOf } from '../tree/node.ts';

/** Whether a name (or path) matches the whole pattern. `*` and `?` match a leading dot, `*` also slashes. */
export type Matches = (name: ByteString) => boolean;

/** As long as a path can be. */
const MAX_PATTERN = 4096;

const OPTIONS = {
  dot: true,
  nobrace: true,
  nocomment: true,
  noext: true,
  noglobstar: true,
  nonegate: true,
  optimizationLevel: 0,
  platform: 'linux',
} as const;

/** minimatch treats slashes as separators, find(1) does not. No name has a NUL. */
const withoutSlashes = (text: string): string => text.replaceAll('/', '\0');

/** Time is linear in the name, which is the image's to choose. USAGE for an invalid pattern. */
export function globOf(pattern: string): Matches {
  if (pattern === '' || pattern.length > MAX_PATTERN) {
    throw new LacunaError('USAGE', `a pattern of ${pattern.length} characters`, {
      op: 'find',
      subject: pattern.slice(0, 80),
    });
  }
  const glob = new Minimatch(withoutSlashes(pattern), OPTIONS);
  return (name) => glob.match(withoutSlashes(textOf(name)));
}

/** A name as characters, so that `?` is one of them; as bytes where they are not UTF-8. */
function textOf(name: ByteString): string {
  const bytes = bytesOf(name);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : name;
}
