/** Untrusted JSON: bounded in size and depth before it is parsed; null means absent, as in Go programs. */
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

interface ParseJsonOptions {
  readonly op: string;
  readonly subject: string;
  /** Bytes. */
  readonly limit: number;
}

/**
 * The value of a JSON text, without the fields that are null. Throws a FormatError that says what is wrong, never with
 * the text itself.
 */
export const parseJson = (bytes: Uint8Array, options: ParseJsonOptions): unknown =>
  withoutNulls(parseRawJson(bytes, options));

/** As {@link parseJson}, with every null: for documents that are written again. */
export function parseRawJson(bytes: Uint8Array, { op, subject, limit }: ParseJsonOptions): unknown {
  if (bytes.length > limit) throw new FormatError('document', `larger than ${limit} bytes`, { op, subject });
  if (depthOf(bytes) > MAX_DEPTH) throw new FormatError('document', `nested deeper than ${MAX_DEPTH}`, { op, subject });
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    // The parser's own message would quote the text.
    throw new FormatError('document', 'not JSON', { op, subject });
  }
}

/** `value` without the fields of objects that are null: Go's encoder writes null for a list or map that is absent. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(fields.map(([name, field]) => [name, withoutNulls(field)]));
}

/** As {@link parseJson} of text that may not be quoted in an error, because it holds passwords; undefined for what is not JSON. */
export function parseSecretJson(text: string): unknown {
  try {
    return withoutNulls(JSON.parse(text));
  } catch {
    return undefined;
  }
}
