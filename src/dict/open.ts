/** From `--dict SPEC` to a dictionary. */
import type { OpenImageOptions } from '../reader/image.ts';
import type { ChunkDict } from './dict.ts';
import { ImageDict, readImageBlobs } from './image-dict.ts';

const SQLITE = 'sqlite:';

/** The file of a `sqlite:FILE` spec; null for the reference of an image. */
export const databaseOf = (spec: string): string | null => (spec.startsWith(SQLITE) ? spec.slice(SQLITE.length) : null);

/** Opens `sqlite:FILE`, which is made when it is missing, or the chunks of an image (`docker://…`, `oci:…`, `rafs:…`). */
export async function openDict(spec: string, options: OpenImageOptions = {}): Promise<ChunkDict> {
  const path = databaseOf(spec);
  if (path === null) return new ImageDict(spec, await readImageBlobs(spec, options));
  const { SqliteDict } = await import('./sqlite-dict.ts');
  const dict = await SqliteDict.open(path, { create: true });
  dict.freeze();
  return dict;
}
