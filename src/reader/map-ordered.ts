/** Work on a few items at once, their results in order. */

/** At most `limit` items are worked on ahead of the one whose result is due. An error is thrown when its item is due. */
export async function* ahead<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  limit: number,
  work: (item: T) => Promise<R> | R,
): AsyncGenerator<R> {
  const waiting: Array<Promise<R> | R> = [];
  for await (const item of items) {
    const result = work(item);
    if (result instanceof Promise) result.catch(() => {});
    waiting.push(result);
    if (waiting.length >= limit) yield await waiting.shift()!;
  }
  while (waiting.length > 0) yield await waiting.shift()!;
}
