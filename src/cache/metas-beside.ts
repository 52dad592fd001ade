/** Chunk info in files beside a bootstrap. */
import { join } from 'node:path';
import { FormatError } from '../errors.ts';
import { metaNameOf, needsMeta } from '../formats/rafs/blob.ts';
import { MAX_META_SIZE } from '../formats/rafs/limits.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { openBootstrap } from '../formats/rafs/open.ts';
import { readRegular, sizeOfRegular, whenMissing } from '../open-file.ts';
import type { KeptMeta, MetaSources } from './blob-metas.ts';

const fileOf = (name: string): string => `${name}.blob.meta`;

/**
 * Files to put beside a bootstrap, by name: the chunk info that its blobs need, if `kept` has it. The daemon fetches
 * the rest. `blobId`: hex id of the blob that the bootstrap was taken out of. FORMAT when `bootstrap` is not one.
 */
export async function metaFiles(
  bootstrap: Buffer,
  kept: MetaSources['kept'],
  options: { readonly subject: string; readonly blobId?: string },
): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const blob of openBootstrap(bootstrap, options).blobs.filter(needsMeta)) {
    for (const name of new Set([blob.id, metaNameOf(blob)])) {
      const meta = await kept(name, metaSize(blob));
      if (meta !== null) files.set(fileOf(name), await meta());
    }
  }
  return files;
}

/** {@link metaFiles} of a bootstrap layer. */
export async function metaFilesOf(
  { bootstrap, metas }: { readonly bootstrap: Buffer; readonly metas: ReadonlyMap<string, Buffer> },
  subject: string,
): Promise<ReadonlyMap<string, Buffer>> {
  if (metas.size === 0) return metas;
  return await metaFiles(bootstrap, async (name, size) => sizedMeta(metas, name, size), { subject });
}

/**
 * The `blob.meta` of a blob in `folder`; null when it is not there. FORMAT when it has another size, FORBIDDEN or
 * SYSTEM when it cannot be read.
 */
export const metasBeside =
  (folder: string) =>
  async (name: string, size: number): Promise<KeptMeta | null> => {
    const subject = join(folder, fileOf(name));
    const purpose = { op: 'read chunk info', within: folder };
    const assertSize = (found: number): void => {
      if (found === size) return;
      throw new FormatError('blob.meta', `${found} bytes, not ${size}`, { op: 'read chunk info', subject });
    };
    const found = await sizeOfRegular(subject, purpose).catch(whenMissing(null));
    if (found === null) return null;
    assertSize(found);
    return async () => {
      const meta = await readRegular(subject, MAX_META_SIZE, purpose);
      assertSize(meta.length);
      return meta;
    };
  };

/** The chunk info under a name in `metas`, if it has the size: beside lz4 blobs only the header lies there. */
export function sizedMeta(metas: ReadonlyMap<string, Buffer>, name: string, size: number): KeptMeta | null {
  const meta = metas.get(name) ?? null;
  return meta?.length === size ? async () => meta : null;
}
