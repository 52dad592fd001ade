/** The report of a conversion, for people and programs. */
import { z } from 'zod';
import type { Access } from '../dict/session.ts';
import { isDigest } from '../image/digest.ts';
import type { Transfer } from './transfer.ts';

const bytes = z.int().min(0);
const digest = z.string().refine(isDigest, 'not a digest');

/** The part of a layer's report that does not depend on the run, as a record keeps it. */
const layerFacts = z.object({
  /** The original layer and its compressed bytes. */
  source: digest,
  sourceSize: bytes,
  /** The blob it became, null when it has no file content. */
  blob: digest.nullable(),
  blobSize: bytes,
  /** The blob with its chunk info and its bytes, where that does not lie in the blob itself; else null and 0. */
  meta: digest.nullable(),
  metaSize: bytes,
  chunks: bytes,
  /** Plain bytes of all its files, and of those that were stored once already. */
  bytes: bytes,
  reusedBytes: bytes,
});

export const imageFacts = z.object({
  /** `os/arch[/variant]` as the config says. */
  platform: z.string().max(256),
  source: digest,
  /** The lazy manifest. */
  digest,
  layers: z.array(layerFacts).max(1024),
  bootstrap: z.object({ digest, size: bytes, plainSize: bytes }),
  /** Blobs that the bootstrap refers to, in its order. */
  blobs: z.array(digest).max(1024),
});

/** One converted layer: its source, its blobs and their sizes. */
export type LayerFacts = z.infer<typeof layerFacts>;

/** One converted image: its manifests, sizes and layers. */
export type ImageFacts = z.infer<typeof imageFacts>;

/** The conversion of one layer. */
export interface LayerReport extends Readonly<LayerFacts> {
  /** How its blobs came to the target. */
  readonly transfer: Transfer;
  /** An earlier conversion's result was found in the target: the layer was not read. */
  readonly isReused: boolean;
  /** Milliseconds; several layers are converted at a time. */
  readonly duration: number;
}

/** The conversion of one image, for one platform. */
export interface ImageReport extends Readonly<Omit<ImageFacts, 'layers'>> {
  /** The layers from the lowest to the highest. */
  readonly layers: readonly LayerReport[];
  /** Blobs of the dictionary that it refers to, in order of what they save. */
  readonly dictionary: readonly DictionaryReport[];
  /** Of all that the lazy image consists of: blobs, chunk info, bootstrap, config. */
  readonly transfer: Transfer;
  /** The whole image was found in the target. */
  readonly isReused: boolean;
  /** Milliseconds. */
  readonly duration: number;
}

/** One blob of other images that chunks of this one lie in. */
export interface DictionaryReport {
  /** Lower-case hex SHA-256 of the blob. */
  readonly blob: string;
  /** Whether the target had it, got it from a repository of its registry, or got its bytes. */
  readonly access: Access;
  /** Chunks that were not stored again, their stored and their plain bytes. */
  readonly chunks: number;
  /** Stored bytes of the chunks that were not stored again. */
  readonly savedBytes: number;
  /** Plain bytes of the chunks that were not stored again. */
  readonly plainBytes: number;
}
