/** Resolves the reference that a store was opened with; when its tag is missing, the error lists existing tags. */
import { isLacunaError, LacunaError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import { nearest } from '../suggest.ts';
import type { ImageStore, SignalOptions } from './store.ts';

/** Maximum number of tags that are read to find similar ones: one page of most registries. */
const MAX_TAGS = 1000;
const MAX_SHOWN = 8;

/** As {@link ImageStore.resolve} with null, with a hint about tags in the error. */
export async function resolveNamed(store: ImageStore, options: SignalOptions): Promise<Descriptor> {
  try {
    return await store.resolve(null, options);
  } catch (error) {
    const hint = isMissing(error) ? await tagsHint(store, options) : null;
    if (hint === null) throw error;
    const { code, message, op, subject } = error as LacunaError;
    throw new LacunaError(code, message, {
      ...(op === null ? {} : { op, subject: subject ?? store.subject }),
      hint,
      cause: error,
    });
  }
}

/**
 * Whether a registry answered 404. Only its errors have a status; those of layouts and archives list the names already.
 */
const isMissing = (error: unknown): boolean =>
  isLacunaError(error) && error.code === 'NOT_FOUND' && 'status' in error && error.status === 404;

/** A hint with the tags; null when the repository does not exist, or its tags cannot be listed. */
async function tagsHint(store: ImageStore, options: SignalOptions): Promise<string | null> {
  const tags: string[] = [];
  try {
    for await (const tag of store.tags(options)) if (tags.push(tag) === MAX_TAGS) break;
  } catch (error) {
    if (isLacunaError(error)) return null;
    throw error;
  }
  if (tags.length === 0) return null;
  const near = nearest(/:([^:/@]+)$/.exec(store.subject)?.[1] ?? '', tags);
  const shown = tags.slice(0, MAX_SHOWN).join(', ');
  const list = `it has: ${shown}${tags.length > MAX_SHOWN ? ', … (lacuna tags lists all)' : ''}`;
  return near === null ? list : `did you mean ${near}? ${list}`;
}
