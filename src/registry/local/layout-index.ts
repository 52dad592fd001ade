/** `index.json` of an OCI layout: read with validation, and changed as raw JSON, so that unknown fields are kept. */
import { join } from 'node:path';
import { FormatError, LacunaError } from '../../errors.ts';
import { parseRawJson } from '../../image/json.ts';
import { type Descriptor, MAX_MANIFEST_SIZE, parseIndex, validateDescriptor } from '../../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../../image/media.ts';
import { readRegular, whenMissing } from '../../open-file.ts';
import { refNameOf } from './file-store.ts';
import { withLayoutLock } from './layout-lock.ts';
import { replaceFile } from './layout-temporary.ts';

const FILE = 'index.json';

/** The entries of a layout's index, in their order. NOT_FOUND when there is no layout. */
export async function readEntries(dir: string): Promise<Descriptor[]> {
  const bytes = await readIndex(dir);
  if (bytes !== null) return parseIndex(bytes, join(dir, FILE)).manifests;
  throw new LacunaError('NOT_FOUND', `${dir} is not an OCI layout: it has no index.json`, {
    op: 'read layout',
    subject: dir,
  });
}

/** The bytes of the index; null when there is none. */
const readIndex = (dir: string): Promise<Buffer | null> =>
  readRegular(join(dir, FILE), MAX_MANIFEST_SIZE, { op: 'read layout', within: dir }).catch(whenMissing(null));

/**
 * Adds `descriptor` to the index under the name `ref` (null: without a name). An entry of that name is replaced; all
 * other ones are kept with their unknown fields. The file is replaced atomically.
 */
export async function putEntry(dir: string, descriptor: Descriptor, ref: string | null): Promise<void> {
  await withLayoutLock(dir, async () => {
    const path = join(dir, FILE);
    const document = await readDocument(dir);
    const entry =
      ref === null
        ? descriptor
        : { ...descriptor, annotations: { ...descriptor.annotations, [ANNOTATION.refName]: ref } };
    const kept = document.manifests.filter((raw) => !isReplaced(validateDescriptor(raw, path), descriptor, ref));
    const text = JSON.stringify({ ...document, manifests: [...kept, entry] });
    await replaceFile(dir, path, text);
  });
}

function isReplaced(entry: Descriptor, descriptor: Descriptor, ref: string | null): boolean {
  const name = refNameOf(entry);
  return ref === null ? name === null && entry.digest === descriptor.digest : name === ref;
}

/** The raw document; that of an empty layout when there is none. */
async function readDocument(dir: string): Promise<{ manifests: unknown[]; [field: string]: unknown }> {
  const context = { op: 'read layout', subject: join(dir, FILE) };
  const bytes = await readIndex(dir);
  if (bytes === null) return { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] };
  const document = parseRawJson(bytes, { ...context, limit: MAX_MANIFEST_SIZE });
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new FormatError('document', 'not a JSON object', context);
  }
  const { manifests } = document as Record<string, unknown>;
  // `umoci init` writes an empty index like this.
  if (manifests === null || manifests === undefined) return { ...document, manifests: [] };
  if (!Array.isArray(manifests)) throw new FormatError('manifests', 'not a list', context);
  return { ...document, manifests: manifests as unknown[] };
}
