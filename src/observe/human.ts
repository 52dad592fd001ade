/** Numbers and tables as people read them, the same everywhere: in results, progress and messages. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

/** A byte count with at most four digits: `0 B`, `3.94 kB`, `168.1 MB`. Powers of 1000, as docker and skopeo print. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.95 would be printed as 1000.0.
  while (value >= 999.95 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  return `${value.toFixed(value < 9.995 ? 2 : 1)} ${UNITS[unit]}`;
}

/** A duration: `0.34 s`, `12.2 s`, `3 min 05 s`, `2 h 14 min`. */
export function humanDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** Rows of cells as lines whose columns are aligned, to the right where `right` names the column's index. */
export function alignColumns(rows: ReadonlyArray<readonly string[]>, right: readonly number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, column) => (right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}
