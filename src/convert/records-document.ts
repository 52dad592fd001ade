/**
 * The manifest that lists what conversions left in a repository: an artifact that no engine runs, one layer for each
 * record of a layer, and the images in an annotation.
 */
import { z } from 'zod';
import { digestOf, isDigest } from '../image/digest.ts';
import { parseRawJson } from '../image/json.ts';
import { type Descriptor, MAX_MANIFEST_SIZE, type Manifest, parseManifest } from '../image/manifest.ts';
import { MEDIA } from '../image/media.ts';
import { imageFacts } from './report.ts';

const ARTIFACT = 'application/vnd.lacuna.layers.v1';
const RECORD = 'application/vnd.lacuna.layer.v1+zstd';
/** The config that an artifact has (image-spec, "Guidance for an Empty Descriptor"). */
export const EMPTY_CONFIG = Buffer.from('{}');

const ANNOTATION = {
  layer: 'lacuna.layer',
  diffId: 'lacuna.diff-id',
  recipe: 'lacuna.recipe',
  images: 'lacuna.images',
} as const;

/** Maximum entries; the least recently used are dropped first. A manifest of this size has some 200 kB. */
const MAX_LAYERS = 256;
const MAX_IMAGES = 64;

/** Of a converted layer, by its digest, that of its tar, and the recipe. */
export interface LayerEntry {
  readonly layer: string;
  readonly diffId: string;
  readonly recipe: string;
  readonly record: Descriptor;
}

const imageEntry = z.object({
  recipe: z.string().max(1024),
  /** The repository that holds the layers of an image by reference. */
  reference: z.string().max(4096).nullable(),
  /** Bytes of the lazy manifest. */
  size: z.int().min(0).max(MAX_MANIFEST_SIZE),
  platform: z.object({
    os: z.string().max(64),
    architecture: z.string().max(64),
    variant: z.string().max(64).exactOptional(),
  }),
  report: imageFacts,
});
export type ImageEntry = z.infer<typeof imageEntry>;

export interface RecordsDocument {
  readonly layers: readonly LayerEntry[];
  readonly images: readonly ImageEntry[];
}

export const NO_RECORDS: RecordsDocument = { layers: [], images: [] };

/** The document in these bytes; null for a manifest that is something else. FormatError for one that is damaged. */
export function parseRecords(bytes: Buffer, subject: string): RecordsDocument | null {
  const manifest = parseManifest(bytes, subject);
  if (manifest.artifactType !== ARTIFACT) return null;
  const layers = manifest.layers.flatMap((record): LayerEntry[] => {
    const {
      [ANNOTATION.layer]: layer,
      [ANNOTATION.diffId]: diffId,
      [ANNOTATION.recipe]: recipe,
    } = record.annotations ?? {};
    const isWhole =
      record.mediaType === RECORD && isDigest(layer ?? '') && isDigest(diffId ?? '') && recipe !== undefined;
    return isWhole ? [{ layer: layer!, diffId: diffId!, recipe, record }] : [];
  });
  return { layers, images: imagesOf(manifest, subject) };
}

function imagesOf({ annotations }: Manifest, subject: string): ImageEntry[] {
  const text = Buffer.from(annotations?.[ANNOTATION.images] ?? '[]');
  const value = parseRawJson(text, { op: 'read records', subject, limit: MAX_MANIFEST_SIZE });
  // An entry of another version is ignored.
  return (Array.isArray(value) ? value : []).flatMap((entry) => {
    const { data } = imageEntry.safeParse(entry, { jitless: true });
    return data === undefined ? [] : [data];
  });
}

/** `changes` in `before`: what they replace is left out, and they come last. */
export function mergeRecords(before: RecordsDocument, changes: RecordsDocument): RecordsDocument {
  const layers = new Map(before.layers.map((entry) => [layerKey(entry), entry]));
  const images = new Map(before.images.map((entry) => [imageKey(entry), entry]));
  for (const entry of changes.layers) {
    layers.delete(layerKey(entry));
    layers.set(layerKey(entry), entry);
  }
  for (const entry of changes.images) {
    images.delete(imageKey(entry));
    images.set(imageKey(entry), entry);
  }
  return { layers: [...layers.values()].slice(-MAX_LAYERS), images: [...images.values()].slice(-MAX_IMAGES) };
}

export const layerKey = ({ layer, diffId, recipe }: Omit<LayerEntry, 'record'>): string =>
  `${layer} ${diffId} ${recipe}`;
const imageKey = ({ report, recipe, reference }: ImageEntry): string => `${report.source} ${recipe} ${reference ?? ''}`;

export const recordDescriptor = (bytes: Buffer, entry: Omit<LayerEntry, 'record'>): Descriptor => ({
  mediaType: RECORD,
  digest: digestOf(bytes),
  size: bytes.length,
  annotations: {
    [ANNOTATION.layer]: entry.layer,
    [ANNOTATION.diffId]: entry.diffId,
    [ANNOTATION.recipe]: entry.recipe,
  },
});

export function encodeRecords({ layers, images }: RecordsDocument): Buffer {
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    artifactType: ARTIFACT,
    config: { mediaType: MEDIA.ociEmpty, digest: digestOf(EMPTY_CONFIG), size: EMPTY_CONFIG.length },
    layers: layers.map(({ record }) => record),
    annotations: { [ANNOTATION.images]: JSON.stringify(images) },
  };
  return Buffer.from(JSON.stringify(manifest));
}
