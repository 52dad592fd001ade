/** Lists in pieces: what is looked up for many at once, without all of them in memory. */

/** Paths whose files are hashed together: enough for long requests, some 20 MB of rows. */
export const HASHED_TOGETHER = 16 * 1024;

export function* batchesOf<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let batch: T[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
