/** Sizes and durations as people write them. */

/** Milliseconds per unit. */
export const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** For hints. */
export const SIZE_FORMS = '4096, 0x1000, 128KiB (or 128K, of 1024 bytes), 1.5MB (of 1000000), 1GiB';

const NUMBER = /^(0x[0-9a-f]+|\d+(?:\.\d+)?)\s*([a-z]*)$/i;

/** Bytes of a size unit, in either case, as GNU's programs have it: K and KiB are 1024, KB is 1000. */
function bytesPer(unit: string): number | undefined {
  const match = /^([kmgtp])(i?b)?$/i.exec(unit);
  if (match === null) return /^b?$/i.test(unit) ? 1 : undefined;
  const power = 'kmgtp'.indexOf(match[1]!.toLowerCase()) + 1;
  return (match[2]?.toLowerCase() === 'b' ? 1000 : 1024) ** power;
}

function parse(text: string, unitOf: (unit: string) => number | undefined): number | null {
  const match = NUMBER.exec(text.trim());
  const unit = match === null ? undefined : unitOf(match[2]!);
  const value = unit === undefined ? Number.NaN : Math.round(Number(match![1]) * unit);
  return Number.isSafeInteger(value) ? value : null;
}

/** Bytes of `128KiB`, `128k`, `1.5 MB`, `0x1000`; a bare number is bytes. Null when it is not a size. */
export const parseSize = (text: string): number | null => parse(text, bytesPer);

/** Milliseconds of `30s`; null when it is not a number with one of the units. */
export const parseDuration = (text: string): number | null =>
  parse(text, (unit) => (Object.hasOwn(DURATION_UNITS, unit) ? DURATION_UNITS[unit] : undefined));
