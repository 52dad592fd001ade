/**
 * The seam of every store: whatever a file system, a library or a mistake of ours throws inside, what leaves is a
 * LacunaError that says which operation failed on what, with the original as its cause.
 */
import { toLacunaError } from '../errors.ts';
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

/** `store` itself: other stores of its class know it by its private fields. */
export function withOwnErrors<T extends ImageStore>(store: T): T {
  const { subject } = store;
  guard(store, STORE_OPS, subject);
  const { upload, open } = store;
  store.upload = async (options) => guard<BlobUpload>(await upload.call(store, options), UPLOAD_OPS, subject);
  store.open = (descriptor, options) => guardPieces(open.call(store, descriptor, options), subject);
  return store;
}

function guard<T extends object>(target: T, ops: Readonly<Record<string, string>>, subject: string): T {
  for (const [name, op] of Object.entries(ops)) {
    const method: unknown = Reflect.get(target, name);
    if (typeof method !== 'function') continue;
    Reflect.set(target, name, async (...given: unknown[]): Promise<unknown> => {
      try {
        return await Reflect.apply(method, target, given);
      } catch (error) {
        throw toLacunaError(error, { op, subject });
      }
    });
  }
  return target;
}

async function* guardPieces(pieces: AsyncIterable<Buffer>, subject: string): AsyncGenerator<Buffer> {
  try {
    yield* pieces;
  } catch (error) {
    throw toLacunaError(error, { op: 'read', subject });
  }
}
