/** A chunk dictionary: chunks of existing blobs by digest. Interfaces, and the rule which blobs are usable. */
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import type { Digester } from '../native/addon.ts';
import type { ByteString, FileChunk } from '../tree/node.ts';

/** Chunks of which kind an image can refer to: those of blobs with its own digester and chunk size. */
export interface ChunkKind {
  readonly digester: Digester;
  /** Bytes. */
  readonly chunkSize: number;
}

/** A blob with the fields that another image needs to refer to it. */
export interface DictBlob {
  /** Its entry of the blob table. */
  readonly blob: RafsBlob;
  /** Bytes of the whole blob; its entry may stop before what lies at its end. */
  readonly size: number;
  /** Its `blob.meta` file; null where the image did not carry it, and readers fetch it out of the blob. */
  readonly meta: Buffer | null;
  /** Where it was seen, see locations.ts. */
  readonly places: readonly string[];
}

export interface ChunkDict extends Disposable {
  /** For messages. */
  readonly subject: string;
  /**
   * Chunks by digest, the best first. `digests`: 32 bytes each, back to back; digests without a chunk are not
   * in the result.
   */
  lookup(digests: Buffer, kind: ChunkKind): ReadonlyMap<ByteString, readonly FileChunk[]>;
  blob(id: string): DictBlob | null;
}

/** A blob and chunks of it, for a dictionary that grows. */
export interface NewBlob extends DictBlob {
  readonly chunks: Iterable<FileChunk>;
}

/** Numbers of what was added to a chunk dictionary. */
export interface DictGrowth {
  /** Number of blobs that were new. */
  readonly blobs: number;
  /** Number of chunks that were new. */
  readonly chunks: number;
  /** Places added to blobs that the dictionary had already. */
  readonly places: number;
}

export interface GrowingDict extends ChunkDict {
  /** Adds new blobs and chunks, all or nothing. PRECONDITION for a blob that it has with other fields. */
  add(blobs: readonly NewBlob[]): DictGrowth;
}

export const isGrowing = (dict: ChunkDict): dict is GrowingDict => 'add' in dict;

/** Blobs whose bytes are somebody else's, a secret's, or not their chunks. */
const UNUSABLE =
  FEATURE.ZRAN | FEATURE.SEPARATE | FEATURE.TARFS | FEATURE.ENCRYPTED | FEATURE.EXTERNAL | FEATURE.INLINED_FS_META;

/** Whether other images may refer to chunks of the blob. */
export const isUsableBlob = (blob: RafsBlob): boolean => (blob.features & UNUSABLE) === 0 && blob.cipher === null;

/** Whether they may refer to this chunk of a fit blob: it is stored alone. */
export const isUsableChunk = (chunk: FileChunk): boolean => chunk.within === null;
