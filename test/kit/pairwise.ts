/**
 * Rows of choices in which any two choices meet at least once: far fewer than all combinations, and two is what faults
 * take.
 */

export type Choices<F extends Readonly<Record<string, readonly unknown[]>>> = { [K in keyof F]: F[K][number] };

/** The same rows for the same factors: greedy, each row begins with the first pair that no row has had. */
export function pairwise<F extends Readonly<Record<string, readonly unknown[]>>>(factors: F): Choices<F>[] {
  const values = Object.values(factors);
  const open = new Set<string>();
  const pairOf = (f: number, v: number, g: number, w: number): string =>
    f < g ? `${f} ${v} ${g} ${w}` : `${g} ${w} ${f} ${v}`;
  for (let f = 0; f < values.length; f += 1)
    for (let g = f + 1; g < values.length; g += 1)
      for (const v of values[f]!.keys()) for (const w of values[g]!.keys()) open.add(pairOf(f, v, g, w));

  const rows: Choices<F>[] = [];
  while (open.size > 0) {
    const row = new Map<number, number>();
    const [f, v, g, w] = [...open][0]!.split(' ').map(Number) as [number, number, number, number];
    row.set(f, v).set(g, w);
    for (const factor of values.keys()) {
      if (row.has(factor)) continue;
      // The value that meets most of what is open; among equals another one in each row.
      const gain = (value: number): number => [...row].filter(([h, x]) => open.has(pairOf(factor, value, h, x))).length;
      const count = values[factor]!.length;
      const order = Array.from({ length: count }, (_, i) => (i + rows.length) % count);
      row.set(
        factor,
        order.reduce((best, value) => (gain(value) > gain(best) ? value : best)),
      );
    }
    for (const [a, x] of row) for (const [b, y] of row) open.delete(pairOf(a, x, b, y));
    rows.push(Object.fromEntries(Object.keys(factors).map((name, i) => [name, values[i]![row.get(i)!]])) as Choices<F>);
  }
  return rows;
}
