/** Manifests, indexes and configs of a store: fetched, compared with their descriptors, and examined. */
import { toLacunaError } from '../errors.ts';
import type { Descriptor, Examined } from '../image/manifest.ts';
import { MAX_MANIFEST_SIZE } from '../image/manifest.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import type { Findings } from './findings.ts';

/** Reads and examines a document. Null when it cannot be read or parsed; every problem is recorded. */
export async function readDocument<T>(
  store: ImageStore,
  descriptor: Descriptor,
  examine: (bytes: Buffer, subject: string) => Examined<T>,
  findings: Findings,
  options: SignalOptions,
): Promise<T | null> {
  const bytes = await bytesOf(store, descriptor, findings, options);
  if (bytes === null) return null;
  try {
    const { document, problems } = examine(bytes, findings.subject);
    for (const problem of problems) findings.recordError(problem, problem.field);
    return document;
  } catch (error) {
    findings.recordError(error, 'document');
    return null;
  }
}

async function bytesOf(
  store: ImageStore,
  descriptor: Descriptor,
  findings: Findings,
  options: SignalOptions,
): Promise<Buffer | null> {
  try {
    return await store.manifest(descriptor, options);
  } catch (error) {
    const { code } = toLacunaError(error);
    findings.recordError(error, code === 'SIZE_MISMATCH' ? 'size' : 'digest');
    // A document with a wrong digest is examined all the same, so that its other problems are reported too.
    return code === 'DIGEST_MISMATCH' ? await unverified(store, descriptor, options) : null;
  }
}

async function unverified(store: ImageStore, descriptor: Descriptor, options: SignalOptions): Promise<Buffer | null> {
  if (descriptor.size > MAX_MANIFEST_SIZE) return null;
  const pieces: Buffer[] = [];
  try {
    for await (const piece of store.open(descriptor, { ...options, verify: false })) pieces.push(piece);
  } catch {
    return null;
  }
  return Buffer.concat(pieces);
}
