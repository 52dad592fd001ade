/** Where an image is taken from: text, a parsed reference, or a store that somebody has open already. */
import { LacunaError } from '../errors.ts';
import { formatReference, parseReference, type Reference } from '../image/reference.ts';
import { refuseBarePath } from './local/recognize.ts';
import { openStore } from './open.ts';
import type { ImageStore, StoreOptions } from './store.ts';

/** What names an image. A store means what its own reference names, and stays open. */
export type ImageInput = string | Reference | ImageStore;

/** A store; disposing of it closes the store, unless it was open before. */
export interface OpenedSource extends AsyncDisposable {
  readonly store: ImageStore;
}

export const isStore = (input: ImageInput): input is ImageStore =>
  typeof input === 'object' && input !== null && 'resolve' in input;

/** The reference that `input` is, null for a store. Throws REFERENCE, also for a path without a transport, or
 * USAGE for what is neither. */
export function referenceOf(input: ImageInput): Reference | null {
  if (typeof input === 'string') {
    refuseBarePath(input);
    return parseReference(input);
  }
  if (isStore(input)) return null;
  if (typeof input === 'object' && input !== null && 'transport' in input) return input;
  throw new LacunaError('USAGE', `an image is named by text, a Reference or an ImageStore, not by ${typeof input}`, {
    op: 'open',
  });
}

/** `input` for messages and results. */
export function inputName(input: ImageInput): string {
  if (typeof input === 'string') return input;
  return isStore(input) ? input.subject : formatReference(input);
}

/** Opens the store that `input` names, or borrows the one that it is. */
export async function openSource(input: ImageInput, options: StoreOptions = {}): Promise<OpenedSource> {
  const reference = referenceOf(input);
  if (reference === null) return { store: input as ImageStore, [Symbol.asyncDispose]: async () => {} };
  const store = await openStore(reference, options);
  return { store, [Symbol.asyncDispose]: async () => await store[Symbol.asyncDispose]() };
}

/** The store that text or a parsed reference names. No request is made yet. */
export async function openNamedStore(reference: string | Reference, options: StoreOptions = {}): Promise<ImageStore> {
  return await openStore(referenceOf(reference)!, options);
}
