/**
 * Trees that containers or users may still write to, counted and deleted natively: never by path, never on the JavaScript
 * thread.
 */
import { toLacunaError } from '../errors.ts';
import { addon, type TreeUsage, type TreeWalk } from './addon.ts';

export interface WalkOptions {
  readonly signal?: AbortSignal;
}

/** See {@link TreeWalk.usage}. */
export const usageOf = (directory: string, options: WalkOptions = {}): Promise<TreeUsage> =>
  run('count', directory, (walk) => walk.usage(), options);

/** See {@link TreeWalk.remove}. */
export const removeTree = (path: string, options: WalkOptions = {}): Promise<void> =>
  run('remove', path, (walk) => walk.remove(), options);

async function run<T>(
  op: string,
  subject: string,
  work: (walk: TreeWalk) => Promise<T>,
  { signal }: WalkOptions,
): Promise<T> {
  const walk = addon().treeWalk(Buffer.from(subject));
  const stop = () => walk.stop();
  if (signal?.aborted === true) stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await work(walk);
  } catch (error) {
    throw toLacunaError(error, { op, subject });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
