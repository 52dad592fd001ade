/** `referrers`: the manifests whose subject is an image: signatures, SBOMs, attestations, lazy images. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, parseIndex } from '../image/manifest.ts';
import { isIndex } from '../image/media.ts';
import { formatPlatform } from '../image/platform.ts';
import { resolveNamed } from '../registry/named-image.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import type { ImageStore, SignalOptions, StoreOptions } from '../registry/store.ts';

/** Options of {@link referrers}. */
export interface ReferrersOptions {
  /** Only referrers of this artifact type. */
  readonly type?: string;
  /** How the registry is reached. */
  readonly store?: StoreOptions;
  /** Aborts the call. */
  readonly signal?: AbortSignal;
}

/** A manifest or index that points at another one. */
export interface ReferrerNode {
  /** `ALGORITHM:HEX` of the manifest. */
  readonly digest: string;
  /** Its media type. */
  readonly mediaType: string;
  /** Null where it has none. */
  readonly artifactType: string | null;
  /** Bytes of the manifest. */
  readonly size: number;
  /** Its annotations; empty when there are none. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Its own referrers, e.g. the signature of an SBOM. */
  readonly referrers: readonly ReferrerNode[];
}

/** A manifest with referrers: what the reference names, and of an index each of its manifests. */
export interface ReferredManifest {
  /** `ALGORITHM:HEX` of the manifest or index. */
  readonly digest: string;
  /** Its media type. */
  readonly mediaType: string;
  /** As the index has it, `os/architecture[/variant]`; null when unknown. */
  readonly platform: string | null;
  /** Manifests that refer to it. */
  readonly referrers: readonly ReferrerNode[];
}

/** Maximum concurrent lookups; each is a request or more. */
const MAX_LISTS = 256;
/** A signature of an attestation of an SBOM of an image. */
const MAX_DEPTH = 4;

/** Lists the referrers of an image, and of an index those of its manifests as well. */
export async function referrers(input: ImageInput, options: ReferrersOptions = {}): Promise<ReferredManifest[]> {
  if (referenceOf(input)?.transport === 'rafs') {
    throw new LacunaError('USAGE', 'bare files have no referrers', { op: 'list referrers', subject: inputName(input) });
  }
  await using source = await openSource(input, options.store);
  const { store } = source;
  const lists = new Lists(store, options);
  const named = await resolveNamed(store, lists.signal);
  const subjects = [named];
  if (isIndex(named.mediaType)) {
    subjects.push(...parseIndex(await store.manifest(named, lists.signal), store.subject).manifests);
  }
  const found: ReferredManifest[] = [];
  for (const { digest, mediaType, platform } of subjects) {
    const of = await lists.of(digest, 0);
    found.push({ digest, mediaType, platform: platformText(platform), referrers: of });
  }
  return found;
}

const platformText = (platform: Descriptor['platform']): string | null =>
  platform === undefined || platform.os === 'unknown'
    ? null
    : formatPlatform({ os: platform.os, architecture: platform.architecture, variant: platform.variant ?? null });

class Lists {
  readonly signal: SignalOptions;
  readonly #store: ImageStore;
  readonly #type: string | null;
  /** Digests whose referrers are listed already: a cycle is listed once. */
  readonly #seen = new Set<string>();

  constructor(store: ImageStore, { type, signal }: ReferrersOptions) {
    this.#store = store;
    this.#type = type ?? null;
    this.signal = signal === undefined ? {} : { signal };
  }

  async of(digest: string, depth: number): Promise<ReferrerNode[]> {
    if (this.#seen.has(digest) || this.#seen.size >= MAX_LISTS || depth >= MAX_DEPTH) return [];
    this.#seen.add(digest);
    const entries = await this.#store.referrers(digest, depth === 0 ? this.#type : null, this.signal);
    const found: ReferrerNode[] = [];
    for (const entry of entries) {
      found.push({
        digest: entry.digest,
        mediaType: entry.mediaType,
        artifactType: entry.artifactType ?? null,
        size: entry.size,
        annotations: entry.annotations ?? {},
        referrers: await this.of(entry.digest, depth + 1),
      });
    }
    return found;
  }
}
