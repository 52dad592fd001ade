/** Chunk info that lies beside a bootstrap in its unpacked layer. */
import { join } from 'node:path';
import { FormatError } from '../errors.ts';
import { MAX_META_SIZE } from '../formats/rafs/limits.ts';
import { readRegular, whenMissing } from '../open-file.ts';

/**
 * The `blob.meta` of a blob in `folder`; null when it is not there. FORMAT when it has another size, FORBIDDEN or
 * SYSTEM when it cannot be read.
 */
export const metasBeside =
  (folder: string) =>
  async (name: string, size: number): Promise<Buffer | null> => {
    const subject = join(folder, `${name}.blob.meta`);
    const purpose = { op: 'read chunk info', within: folder };
    const meta = await readRegular(subject, MAX_META_SIZE, purpose).catch(whenMissing(null));
    if (meta === null || meta.length === size) return meta;
    throw new FormatError('blob.meta', `${meta.length} bytes, not ${size}`, { op: 'read chunk info', subject });
  };
