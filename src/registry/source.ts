/** Sources of images: text, a parsed reference, or a store that is already open. */
import { LacunaError } from '../errors.ts';
import { formatReference, parseReference, type Reference } from '../image/reference.ts';
import { refuseBarePath } from './local/recognize.ts';
import { openStore } from './open.ts';
import type { ImageStore, StoreOptions } from './store.ts';

/** Input that names an image. A store stands for the image that its own reference names, and stays open. */
export type ImageInput = string | Reference | ImageStore;

/** A store; disposing of it closes the store, unless it was open before. */
export interface OpenedSource extends AsyncDisposable {
  readonly store: ImageStore;
}

export const isStore = (input: ImageInput): input is ImageStore =>
  typeof input === 'object' && input !== null && 'resolve' in input;

/**
 * The reference that `input` is; null for a store. Throws REFERENCE, also for a path without a transport, or USAGE for
 * input of another type.
 */
export function referenceOf(input: ImageInput): Reference | null {
  if (typeof input === 'string') {
    refuseBarePath(input);
    return parseReference(input);
  }
  if (isStore(input)) return null;
  if (typeof input === 'object' && input !== null && 'transport' in input) return input;
  throw new LacunaError(
    'USAGE',
    `an image must be named by text, a Reference or an ImageStore, not by ${typeof input}`,
    {
      op: 'open',
    },
  );
}

/** The name of `input` in messages and results. */
export function inputName(input: ImageInput): string {
  if (typeof input === 'string') return input;
  return isStore(input) ? input.subject : formatReference(input);
}

/** Opens the store that `input` names; when `input` is a store, it is used and not closed. */
export async function openSource(input: ImageInput, options: StoreOptions = {}): Promise<OpenedSource> {
  const reference = referenceOf(input);
  if (reference === null) return { store: input as ImageStore, [Symbol.asyncDispose]: async () => {} };
  const store = await openStore(reference, options);
  return { store, [Symbol.asyncDispose]: async () => await store[Symbol.asyncDispose]() };
}

/** Opens the store that text or a parsed reference names. No request is made yet. */
export async function openNamedStore(reference: string | Reference, options: StoreOptions = {}): Promise<ImageStore> {
  return await openStore(referenceOf(reference)!, options);
}
