/** `stat`: all metadata of an inode of an image. */

import type { LayerOrigin, OpenedImage, OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import type { ImageInput } from '../registry/source.ts';
import { bytesOf, display, type FileChunk, fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import { listTree, type Row } from './entries.ts';
import { COMPRESSORS, DIGESTERS } from './format-names.ts';
import { noSuchPath } from './ls.ts';

/** Options of {@link stat}. */
export interface StatOptions extends OpenImageOptions {
  /** Follow a symlink that is the last component, inside the image. Default false. */
  readonly dereference?: boolean;
}

/** One chunk of a file's content. Offsets and sizes in bytes. */
export interface StatChunk {
  /** Where it begins in the file. */
  readonly fileOffset: number;
  /** Plain length. */
  readonly size: number;
  /** Hex id of the blob that has it, and its number there. */
  readonly blob: string;
  /** Its number in the chunk info array of the blob. */
  readonly index: number;
  /** In the blob device, the blob's plain address space. */
  readonly uncompressedOffset: number;
  /** In the blob as it is stored; of the whole unit where the chunk is a part of one. */
  readonly compressedOffset: number;
  /** Stored length; of the whole unit where the chunk is a part of one. */
  readonly compressedSize: number;
  /** How it is compressed. */
  readonly compressor: string;
  /** The hash function of `digest`. */
  readonly digester: string;
  /** Hex, of the plain content. */
  readonly digest: string;
  /** CRC-32C of the plain content, where the format has one. */
  readonly crc32c: number | null;
  /** The unit that is fetched and decoded for it: its decoder, its plain bytes, and the chunk's offset in them. */
  readonly unit: { readonly decoder: string; readonly size: number; readonly offset: number } | null;
}

/** Everything that is known of one path; the result of {@link stat}. */
export interface Stat {
  /** As `lacuna ls` prints it. `path` is the real one, without links. */
  readonly row: Row;
  /** Number of the EROFS inode; null in an ordinary image. */
  readonly nid: number | null;
  /** The layer that it is from; null when the image does not record it. */
  readonly layer: LayerOrigin | null;
  /** Of a regular file of a lazy image, in file order. */
  readonly chunks: readonly StatChunk[];
}

/** Of every path, in order. NOT_FOUND when one is not in the image. */
export async function stat(input: ImageInput, paths: readonly string[], options: StatOptions = {}): Promise<Stat[]> {
  await using image = await openImage(input, options);
  return paths.map((path) => statOf(image, path, options.dereference ?? false));
}

function statOf(image: OpenedImage, path: string, dereference: boolean): Stat {
  const found = resolvePath(image.root, fromText(path), dereference, image.subject);
  if (found === null) throw noSuchPath(path, image.subject);
  const { node } = found;
  const [listed] = listTree(image.root, found.path, { recursive: false });
  let fileOffset = 0;
  const chunks = node.chunks.map((chunk) => {
    const described = describeChunk(chunk, fileOffset);
    fileOffset += chunk.uncompressedSize;
    return described;
  });
  const layer = image.layerOf({ path: display(found.path), pathBytes: bytesOf(found.path), node });
  return { row: listed!.row, nid: node.nid ?? null, layer, chunks };
}

/** `fileOffset`: where it begins in the file that is looked at. */
export function describeChunk(chunk: FileChunk, fileOffset: number): StatChunk {
  const { within } = chunk;
  return {
    fileOffset,
    size: chunk.uncompressedSize,
    blob: chunk.blob,
    index: chunk.index,
    uncompressedOffset: chunk.uncompressedOffset,
    compressedOffset: chunk.compressedOffset,
    compressedSize: chunk.compressedSize,
    compressor: COMPRESSORS[chunk.compressor],
    digester: DIGESTERS[chunk.digester],
    digest: chunk.digest.toString('hex'),
    crc32c: chunk.crc32c,
    unit: within === null ? null : { decoder: within.unit.decoder.kind, size: within.unit.size, offset: within.offset },
  };
}
