/** The manifest or index that a reference names, before one of its manifests is chosen, and its referrers. */
import { type Descriptor, parseIndex } from '../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA, NYDUS_OS_FEATURE } from '../image/media.ts';
import { formatPlatform } from '../image/platform.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';

/** An entry of an index. */
export interface InspectedEntry {
  /** `ALGORITHM:HEX` of the manifest. */
  readonly digest: string;
  /** Its media type. */
  readonly mediaType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  /** `os/architecture[/variant]`; null when unknown. */
  readonly platform: string | null;
  /**
   * `image` or `lazy` as far as the entry itself tells; `attestation` of the manifest {@link about}; `index`; `artifact` for
   * everything else.
   */
  readonly kind: 'image' | 'lazy' | 'attestation' | 'index' | 'artifact';
  /** Its artifact type; null when there is none. */
  readonly artifactType: string | null;
  /** Digest of the manifest that an attestation is about. */
  readonly about: string | null;
}

/** A manifest that points at what is inspected. */
export interface InspectedReferrer {
  /** `ALGORITHM:HEX` of the manifest. */
  readonly digest: string;
  /** Its artifact type; null when there is none. */
  readonly artifactType: string | null;
  /** Bytes of the manifest. */
  readonly size: number;
  /** Digest of what it points at. */
  readonly subject: string;
}

/** The document that a reference names, and how the shown manifest follows from it. */
export interface InspectedTag {
  /** Whether it is a manifest or an index. */
  readonly kind: 'manifest' | 'index';
  /** `ALGORITHM:HEX` of the document. */
  readonly digest: string;
  /** Its media type. */
  readonly mediaType: string;
  /** Bytes of the document. */
  readonly size: number;
  /** Of an index, in its order. */
  readonly manifests: readonly InspectedEntry[];
  /** Referrers of it or of the manifest that is shown. Null when they were not requested. */
  readonly referrers: readonly InspectedReferrer[] | null;
  /**
   * How the manifest that is shown was found: it is what the reference `names`, the index has it for the `platform`, or it
   * is the lazy image that is a `referrer` of one of these.
   */
  readonly shown: 'named' | 'platform' | 'referrer';
}

/** BuildKit's annotations of attestations. */
const REFERENCE_TYPE = 'vnd.docker.reference.type';
const REFERENCE_DIGEST = 'vnd.docker.reference.digest';

/** The manifest that is shown. */
export interface ShownManifest {
  readonly digest: string;
  /** Digest of the manifest that it refers to by its `subject`, null where it has none. */
  readonly subject: string | null;
  readonly isLazy: boolean;
}

export async function inspectTag(
  store: ImageStore,
  chosen: ShownManifest,
  options: SignalOptions & { readonly referrers?: boolean },
): Promise<InspectedTag> {
  const named = await store.resolve(null, options);
  const index = isIndex(named.mediaType) ? parseIndex(await store.manifest(named, options), store.subject) : null;
  // Only the layers of a manifest decide for certain.
  const manifests = (index?.manifests ?? []).map((entry) => {
    const described = describeEntry(entry);
    return chosen.isLazy && entry.digest === chosen.digest ? { ...described, kind: 'lazy' as const } : described;
  });
  const isListed = manifests.some(({ digest }) => digest === chosen.digest);
  const subjects = new Set([named.digest, chosen.subject ?? chosen.digest]);
  return {
    kind: index === null ? 'manifest' : 'index',
    digest: named.digest,
    mediaType: named.mediaType,
    size: named.size,
    manifests,
    referrers: (options.referrers ?? !store.isPinned) ? await referrersOf(store, subjects, options) : null,
    shown: named.digest === chosen.digest ? 'named' : isListed || chosen.subject === null ? 'platform' : 'referrer',
  };
}

async function referrersOf(
  store: ImageStore,
  subjects: Iterable<string>,
  options: SignalOptions,
): Promise<InspectedReferrer[]> {
  const found: InspectedReferrer[] = [];
  for (const subject of subjects) {
    for (const { digest, artifactType, size } of await store.referrers(subject, null, options)) {
      found.push({ digest, artifactType: artifactType ?? null, size, subject });
    }
  }
  return found;
}

function describeEntry(entry: Descriptor): InspectedEntry {
  const { digest, mediaType, size, platform, artifactType, annotations } = entry;
  const isKnown = platform !== undefined && platform.os !== 'unknown' && platform.os !== '';
  return {
    digest,
    mediaType,
    size,
    platform: isKnown ? formatPlatform({ ...platform, variant: platform.variant ?? null }) : null,
    kind: kindOf(entry),
    artifactType: artifactType ?? null,
    about: annotations?.[REFERENCE_DIGEST] ?? null,
  };
}

function kindOf({ mediaType, platform, artifactType, annotations }: Descriptor): InspectedEntry['kind'] {
  if (isIndex(mediaType)) return 'index';
  if (annotations?.[REFERENCE_TYPE] === 'attestation-manifest') return 'attestation';
  const isLazy = platform?.['os.features']?.includes(NYDUS_OS_FEATURE) === true || artifactType === MEDIA.nydusArtifact;
  if (isLazy || annotations?.[ANNOTATION.nydusFsVersion] !== undefined) return 'lazy';
  return !isManifest(mediaType) || platform?.os === 'unknown' || artifactType !== undefined ? 'artifact' : 'image';
}
