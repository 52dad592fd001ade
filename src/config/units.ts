/** Sizes and durations as people write them. */

export type Units = Readonly<Record<string, number>>;

/** Bytes per unit. */
export const SIZE_UNITS: Units = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** Milliseconds per unit. */
export const DURATION_UNITS: Units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** The value of `12KiB` or `1.5 s` in the base unit; null when it is not a number with one of the units. */
export function parseUnit(text: string, units: Units): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text);
  const unit = match === null ? undefined : units[match[2]!];
  const value = unit === undefined ? Number.NaN : Math.round(Number(match![1]) * unit);
  return Number.isSafeInteger(value) ? value : null;
}

/** Bytes of `128KiB`; a bare number is bytes. */
export const parseSize = (text: string): number | null => parseUnit(/^\d+$/.test(text) ? `${text}B` : text, SIZE_UNITS);
