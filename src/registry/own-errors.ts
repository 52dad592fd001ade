/**
 * The error boundary of every store: any error of a file system, a library or a bug of ours leaves it as a LacunaError
 * with the operation and the subject, and the original as its cause.
 */
import { type LacunaError, toLacunaError } from '../errors.ts';
import type { BlobUpload, ImageStore } from './store.ts';

const STORE_OPS = {
  resolve: 'resolve',
  manifest: 'pull',
  has: 'look up',
  upload: 'push',
  mountFrom: 'mount',
  pushManifest: 'push',
  referrers: 'list referrers',
} as const;

const UPLOAD_OPS = { write: 'push', commit: 'push' } as const;

/** Makes the error that a store throws out of one that was thrown inside of it. */
export type Describe = (error: unknown, about: { readonly op: string; readonly subject: string }) => LacunaError;

/** Wraps the methods of `store` itself, not of a copy: other stores of its class use its private fields. */
export function withOwnErrors<T extends ImageStore>(store: T, describe: Describe = toLacunaError): T {
  const { subject } = store;
  const describeAs = (op: string) => (error: unknown) => describe(error, { op, subject });
  guard(store, STORE_OPS, describeAs);
  const { upload, open } = store;
  store.upload = async (options) => guard<BlobUpload>(await upload.call(store, options), UPLOAD_OPS, describeAs);
  store.open = (descriptor, options) => guardPieces(open.call(store, descriptor, options), describeAs('read'));
  return store;
}

function guard<T extends object>(
  target: T,
  ops: Readonly<Record<string, string>>,
  describe: (op: string) => (error: unknown) => LacunaError,
): T {
  for (const [name, op] of Object.entries(ops)) {
    const method: unknown = Reflect.get(target, name);
    if (typeof method !== 'function') continue;
    Reflect.set(target, name, async (...parameters: unknown[]): Promise<unknown> => {
      try {
        return await Reflect.apply(method, target, parameters);
      } catch (error) {
        throw describe(op)(error);
      }
    });
  }
  return target;
}

async function* guardPieces(
  pieces: AsyncIterable<Buffer>,
  describe: (error: unknown) => LacunaError,
): AsyncGenerator<Buffer> {
  try {
    yield* pieces;
  } catch (error) {
    throw describe(error);
  }
}
