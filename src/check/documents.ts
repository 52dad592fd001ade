/** Manifests, indexes and configs of a store, whole: fetched, held against their descriptor, and examined. */

import { toLacunaError } from '../errors.ts';
import type { Descriptor, Examined } from '../image/manifest.ts';
import { MAX_MANIFEST_SIZE } from '../image/manifest.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import type { Findings } from './findings.ts';

/** Null when it could not be had, or is not what it should be; all that is wrong is noted. */
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
    for (const problem of problems) findings.caught(problem, problem.field);
    return document;
  } catch (error) {
    findings.caught(error, 'document');
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
    findings.caught(error, code === 'SIZE_MISMATCH' ? 'size' : 'digest');
    // What is there under a wrong digest is looked at all the same.
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
