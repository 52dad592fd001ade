/** The most similar valid name, for hints. */

/** The name among `known` that is nearest to `word`; null when none is so near that it is likely. */
export function nearest(word: string, known: Iterable<string>): string | null {
  let best: string | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const name of known) {
    const edits = editDistance(word, name);
    if (edits > maximumEdits(word, name) || edits >= least) continue;
    [best, least] = [name, edits];
  }
  return best;
}

/** A slip for every four letters, and none in what is as short as an abbreviation. */
function maximumEdits(a: string, b: string): number {
  const length = Math.max(a.length, b.length);
  return length < 3 ? 0 : Math.max(1, Math.floor(length / 4));
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const edits = [next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)];
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwap) edits.push(before[j - 2]! + 1);
      next[j] = Math.min(...edits);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
