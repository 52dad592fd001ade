/** An image's manifest and config as `inspect` shows them and `diff` compares them. */
import { type Descriptor, type ImageConfig, parseConfig } from '../image/manifest.ts';
import { ANNOTATION, type LayerCompression, layerCompression, MEDIA } from '../image/media.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { bootstrapLayerOf, type ChosenManifest, chooseManifest } from '../reader/select-manifest.ts';
import { type ImageInput, openSource, referenceOf } from '../registry/source.ts';
import type { ImageStore } from '../registry/store.ts';

/** One layer of a manifest. */
export interface InspectedLayer {
  /** `tar`: an ordinary layer; `blob` and `bootstrap`: parts of a lazy image; `other`: none of these. */
  readonly role: 'tar' | 'blob' | 'bootstrap' | 'other';
  /** Its media type. */
  readonly mediaType: string;
  /** Of a tar, as its media type says. */
  readonly compression: LayerCompression | null;
  /** `ALGORITHM:HEX` of the layer as it is stored. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  /** Its annotations; empty when there are none. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** A manifest, summarised. */
export interface InspectedManifest {
  /** Its media type. */
  readonly mediaType: string;
  /** `ALGORITHM:HEX` of the document. */
  readonly digest: string;
  /** Bytes of the document. */
  readonly size: number;
  /** Its annotations; empty when there are none. */
  readonly annotations: Readonly<Record<string, string>>;
  /** The layers from the lowest to the highest. */
  readonly layers: readonly InspectedLayer[];
}

/** Manifest and config of a reference. */
export interface ManifestAndConfig {
  readonly manifest: InspectedManifest;
  /** The image config as it is. */
  readonly config: ImageConfig;
  /** Digest of the manifest that it refers to by its `subject`, null where it has none. */
  readonly subject: string | null;
  /** The layer with the bootstrap, null in an ordinary image. */
  readonly bootstrap: Descriptor | null;
}

/** Manifest and config of an open store's reference. */
export async function readManifestAndConfig(store: ImageStore, options: OpenImageOptions): Promise<ManifestAndConfig> {
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const chosen = await chooseManifest(store, platform, options);
  const bootstrap = bootstrapLayerOf(chosen.manifest);
  const config = parseConfig(await store.manifest(chosen.manifest.config, options), store.subject);
  const subject = chosen.manifest.subject?.digest ?? null;
  return { manifest: describeManifest(chosen, bootstrap), config, subject, bootstrap };
}

/** The same of a reference; null for bare files, which have neither. */
export async function inspectManifest(
  input: ImageInput,
  options: OpenImageOptions,
): Promise<Pick<ManifestAndConfig, 'manifest' | 'config'> | null> {
  if (referenceOf(input)?.transport === 'rafs') return null;
  await using source = await openSource(input, options.store);
  const { manifest, config } = await readManifestAndConfig(source.store, options);
  return { manifest, config };
}

/** `bootstrap`: the layer that has it, null in an ordinary image. */
function describeManifest(chosen: ChosenManifest, bootstrap: Descriptor | null): InspectedManifest {
  const { mediaType, digest, size } = chosen.descriptor;
  const { annotations = {}, layers } = chosen.manifest;
  return {
    mediaType,
    digest,
    size,
    annotations,
    layers: layers.map((layer) => ({
      role: roleOf(layer, bootstrap),
      mediaType: layer.mediaType,
      compression: layerCompression(layer.mediaType),
      digest: layer.digest,
      size: layer.size,
      annotations: layer.annotations ?? {},
    })),
  };
}

function roleOf(layer: Descriptor, bootstrap: Descriptor | null): InspectedLayer['role'] {
  if (layer === bootstrap) return 'bootstrap';
  if (layer.mediaType === MEDIA.nydusBlob || layer.annotations?.[ANNOTATION.nydusBlob] === 'true') return 'blob';
  return layerCompression(layer.mediaType) === null ? 'other' : 'tar';
}
