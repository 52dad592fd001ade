/**
 * Which manifests point at another one by their `subject`. What a referrer's entry in a list is; and for registries the
 * API (distribution-spec 1.1, "Listing Referrers") with the tag that stands for it where a registry has none.
 */
import { LacunaError } from '../errors.ts';
import { parseDigest } from '../image/digest.ts';
import { type Descriptor, type Index, MAX_MANIFEST_SIZE, parseIndex, parseManifest } from '../image/manifest.ts';
import { isIndex, isManifest, MEDIA } from '../image/media.ts';
import { type Answer, readBody } from './answer.ts';
import { type RegistryHttp, resolveLocation } from './http.ts';
import type { SignalOptions } from './store.ts';
import { discard } from './transport.ts';

/** Pages of a list that are followed: as many referrers as an index may have entries. */
const MAX_PAGES = 64;

/** How registries say that they do not know the API, besides 404: the spec asks for 404, proxies know better. */
const NO_API: readonly number[] = [400, 403, 404, 405, 406, 501];

export interface Referrer {
  /** Digest of what it points at. */
  readonly subject: string;
  /** Its entry in a list of referrers. */
  readonly entry: Descriptor;
}

/** Reads `bytes`, the manifest or index of `descriptor`; null when it has no subject. Throws FORMAT. */
export function referrerOf(bytes: Buffer, { mediaType, digest, size }: Descriptor, of: string): Referrer | null {
  if (!isManifest(mediaType) && !isIndex(mediaType)) return null;
  if (!bytes.includes('"subject"')) return null;
  const document = isIndex(mediaType) ? parseIndex(bytes, of) : parseManifest(bytes, of);
  if (document.subject === undefined) return null;
  const artifactType = document.artifactType ?? ('config' in document ? document.config.mediaType : undefined);
  const entry = {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(document.annotations === undefined ? {} : { annotations: document.annotations }),
  };
  return { subject: document.subject.digest, entry };
}

/** `entries` of this type; of any for null. */
export const ofType = (entries: readonly Descriptor[], artifactType: string | null): Descriptor[] =>
  entries.filter((entry) => artifactType === null || entry.artifactType === artifactType);

/** The tag that lists the referrers of a digest where there is no API: `sha256-<hex>`, at most 128 characters. */
export function referrersTag(digest: string): string {
  const { algorithm, hex } = parseDigest(digest);
  return `${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`;
}

export interface RegistryReferrersOptions {
  readonly http: RegistryHttp;
  /** `https://HOST/v2/NAME/`. */
  readonly repository: URL;
  readonly pull: readonly string[];
  readonly subject: string;
  /** Stores an index under a tag. */
  readonly push: (bytes: Buffer, tag: string, options: SignalOptions) => Promise<unknown>;
}

/** The referrers in one repository of a registry. */
export class RegistryReferrers {
  readonly #options: RegistryReferrersOptions;
  /** Null until the registry was asked. */
  #hasApi: boolean | null = null;

  constructor(options: RegistryReferrersOptions) {
    this.#options = options;
  }

  async list(digest: string, artifactType: string | null, options: SignalOptions): Promise<Descriptor[]> {
    const found = this.#hasApi === false ? null : await this.#fromApi(digest, artifactType, options);
    this.#hasApi = found !== null;
    const entries = found ?? (await this.#fromTag(digest, options))?.manifests ?? [];
    return ofType(entries, artifactType);
  }

  /** Lists a referrer that was pushed to a registry which does not do so itself. */
  async note({ subject, entry }: Referrer, options: SignalOptions): Promise<void> {
    const index = (await this.#fromTag(subject, options)) ?? {
      schemaVersion: 2,
      mediaType: MEDIA.ociIndex,
      manifests: [],
    };
    const others = index.manifests.filter(({ digest }) => digest !== entry.digest);
    // The newest last; two who do this at once lose one of their entries, as the spec warns.
    const bytes = Buffer.from(JSON.stringify({ ...index, manifests: [...others, entry] }));
    await this.#options.push(bytes, referrersTag(subject), options);
  }

  /** Null when the registry has no such API. */
  async #fromApi(digest: string, artifactType: string | null, options: SignalOptions): Promise<Descriptor[] | null> {
    const { repository, subject } = this.#options;
    let url = new URL(`referrers/${digest}`, repository);
    if (artifactType !== null) url.searchParams.set('artifactType', artifactType);
    const entries: Descriptor[] = [];
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await this.#get(url, [200, ...NO_API], options);
      const isList = answer.status === 200 && answer.header('content-type')?.startsWith(MEDIA.ociIndex) === true;
      if (!isList) {
        await discard(answer);
        return null;
      }
      const bytes = await readBody(answer, MAX_MANIFEST_SIZE, { op: 'list referrers', subject });
      entries.push(...parseIndex(bytes, `${subject}, referrers`).manifests);
      const next = nextPage(answer);
      if (next === null) return entries;
      if (next.origin !== url.origin) break;
      url = next;
    }
    throw new LacunaError('PROTOCOL', `the list of referrers of ${digest} does not end`, {
      op: 'list referrers',
      subject,
    });
  }

  async #fromTag(digest: string, options: SignalOptions): Promise<Index | null> {
    const { repository, subject } = this.#options;
    const answer = await this.#get(new URL(`manifests/${referrersTag(digest)}`, repository), [200, 404], options);
    if (answer.status === 200) {
      const bytes = await readBody(answer, MAX_MANIFEST_SIZE, { op: 'list referrers', subject });
      return parseIndex(bytes, `${subject}, referrers`);
    }
    await discard(answer);
    return null;
  }

  async #get(url: URL, expect: readonly number[], options: SignalOptions): Promise<Answer> {
    const { http, pull, subject } = this.#options;
    return await http.send({
      op: 'list referrers',
      subject,
      method: 'GET',
      url,
      headers: { accept: MEDIA.ociIndex },
      scopes: pull,
      signal: options.signal ?? null,
      expect,
    });
  }
}

/** RFC 5988: `Link: <URL>; rel="next"`. */
export function nextPage(answer: Answer): URL | null {
  const target = /<([^<>]*)>\s*;\s*rel="?next"?/i.exec(answer.header('link') ?? '')?.[1];
  if (target === undefined) return null;
  const header = (name: string) => (name === 'location' ? target : answer.header(name));
  return resolveLocation({ ...answer, header }, { op: 'list referrers', subject: answer.url.host });
}
