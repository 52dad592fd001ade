/** JSON from elsewhere: bounded in size and depth before anybody looks at it. */
import { FormatError } from '../errors.ts';

/** Deeper than any document of the OCI specs, shallow enough for every recursive reader of it. */
const MAX_DEPTH = 64;

/** Nesting depth of a JSON text, strings skipped. */
function depthOf(bytes: Uint8Array): number {
  let depth = 0;
  let deepest = 0;
  let isString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (isString) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) isString = false;
    } else if (byte === 0x22) isString = true;
    else if (byte === 0x7b || byte === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return deepest;
}

/** The value of a JSON text. Throws a FormatError that says what is wrong, never with the text itself. */
export function parseJson(bytes: Uint8Array, options: { op: string; subject: string; limit: number }): unknown {
  const { op, subject, limit } = options;
  if (bytes.length > limit) throw new FormatError('document', `larger than ${limit} bytes`, { op, subject });
  if (depthOf(bytes) > MAX_DEPTH) throw new FormatError('document', `nested deeper than ${MAX_DEPTH}`, { op, subject });
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    // The parser's own message would quote the text.
    throw new FormatError('document', 'not JSON', { op, subject });
  }
}
