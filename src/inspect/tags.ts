/** `tags`: the names of the images that a repository, layout or archive has. */
import { LacunaError } from '../errors.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import type { StoreOptions } from '../registry/store.ts';

/** Options of {@link tags}. */
export interface TagsOptions {
  /** How the registry is reached. */
  readonly store?: StoreOptions;
  /** Aborts the iteration. */
  readonly signal?: AbortSignal;
}

/**
 * The tags of the repository that `input` is in, the ref names of its layout, or the names of its archive; a tag in `input`
 * itself is ignored. In the order of the store. USAGE for bare files, NOT_FOUND for a repository that does not exist.
 */
export async function* tags(input: ImageInput, options: TagsOptions = {}): AsyncGenerator<string> {
  if (referenceOf(input)?.transport === 'rafs') {
    throw new LacunaError('USAGE', 'bare files have no tags', { op: 'list tags', subject: inputName(input) });
  }
  await using source = await openSource(input, options.store);
  yield* source.store.tags(options.signal === undefined ? {} : { signal: options.signal });
}
