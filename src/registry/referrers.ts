/**
 * Referrers: manifests that point at another one by their `subject`, their entries in lists, and for registries the API
 * (distribution-spec 1.1, "Listing Referrers") with the tag that replaces it where a registry has none.
 */
import { type ErrorCode, FormatError, LacunaError } from '../errors.ts';
import { digestOf, parseDigest } from '../image/digest.ts';
import { type Descriptor, type Index, MAX_MANIFEST_SIZE, parseIndex, parseManifest } from '../image/manifest.ts';
import { isIndex, isManifest, MEDIA } from '../image/media.ts';
import type { RegistryHttp } from './http/http.ts';
import { resolveLocation } from './http/redirect.ts';
import { type RegistryResponse, readBody } from './http/response.ts';
import { discard } from './http/transport.ts';
import type { SignalOptions } from './store.ts';

/** Maximum pages of a list that are read. */
const MAX_PAGES = 64;

const OP = 'list referrers';

/**
 * Errors that mean that a registry has no such list: the spec requires 404; registries and proxies before them answer
 * 400, 401 (with or without a challenge), 403, 405, 406 or 501, or redirect to a web page. The list is optional: a
 * client that may not read it has none. Errors that are retried, such as a 503 or a timeout, do not mean this.
 */
const NO_LIST: readonly ErrorCode[] = ['UNAUTHORIZED', 'FORBIDDEN', 'NOT_FOUND', 'UNSUPPORTED', 'PROTOCOL', 'FORMAT'];

export interface Referrer {
  /** Digest of the manifest that it points at. */
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

/** The `entries` of one artifact type; all of them for null. */
export const ofType = (entries: readonly Descriptor[], artifactType: string | null): Descriptor[] =>
  entries.filter((entry) => artifactType === null || entry.artifactType === artifactType);

/** The tag that lists the referrers of a digest where a registry has no API: `sha256-<hex>`, at most 128 characters. */
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
  /** Whether the registry has the API; null before the first request. */
  #hasApi: boolean | null = null;

  constructor(options: RegistryReferrersOptions) {
    this.#options = options;
  }

  async list(digest: string, artifactType: string | null, options: SignalOptions): Promise<Descriptor[]> {
    const listed = this.#hasApi === false ? null : await unlessNone(() => this.#fromApi(digest, artifactType, options));
    this.#hasApi = listed !== null;
    const entries = listed ?? (await unlessNone(() => this.#fromTag(digest, options)))?.manifests ?? [];
    return ofType(entries, artifactType);
  }

  /** Adds a referrer that was pushed to the list under the tag, for a registry without the API. */
  async note({ subject, entry }: Referrer, options: SignalOptions): Promise<void> {
    const listed = await unlessNone(() => this.#fromTag(subject, options), ['NOT_FOUND']);
    const index = listed ?? { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] };
    const others = index.manifests.filter(({ digest }) => digest !== entry.digest);
    // The newest entry is last. Of two clients that do this at once one loses its entry, as the spec warns.
    const bytes = Buffer.from(JSON.stringify({ ...index, manifests: [...others, entry] }));
    await this.#options.push(bytes, referrersTag(subject), options);
  }

  /** The list of the API; null when the registry does not have it. */
  async #fromApi(digest: string, artifactType: string | null, options: SignalOptions): Promise<Descriptor[] | null> {
    const { repository, subject } = this.#options;
    let url = new URL(`referrers/${digest}`, repository);
    if (artifactType !== null) url.searchParams.set('artifactType', artifactType);
    const entries: Descriptor[] = [];
    for (let page = 0; page < MAX_PAGES; page++) {
      const response = await this.#get(url, options);
      if (isWebPage(response)) {
        await discard(response);
        return null;
      }
      const bytes = await readBody(response, MAX_MANIFEST_SIZE, { op: OP, subject });
      entries.push(...parseIndex(bytes, `${subject}, referrers`).manifests);
      const next = nextPage(response);
      if (next === null) return entries;
      if (next.origin !== url.origin) break;
      url = next;
    }
    throw new LacunaError(
      'PROTOCOL',
      `the list of referrers of ${digest} has more than ${MAX_PAGES} pages, or leads to another host`,
      {
        op: OP,
        subject,
      },
    );
  }

  /**
   * The list under the tag that replaces the API. NOT_FOUND without the tag, UNSUPPORTED when it names anything else.
   */
  async #fromTag(digest: string, options: SignalOptions): Promise<Index> {
    const { repository, subject } = this.#options;
    const tag = referrersTag(digest);
    const response = await this.#get(new URL(`manifests/${tag}`, repository), options);
    const bytes = await readBody(response, MAX_MANIFEST_SIZE, { op: OP, subject });
    try {
      // GitLab's registry reads the tag as the digest and answers with the subject itself, which may be an index.
      if (digestOf(bytes, parseDigest(digest).algorithm) !== digest) return parseIndex(bytes, subject);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
    throw new LacunaError('UNSUPPORTED', `the tag ${tag} does not name a list of referrers`, {
      op: OP,
      subject,
      hint: 'the registry cannot list referrers: put the lazy image into an index, or under a tag of its own',
    });
  }

  async #get(url: URL, options: SignalOptions): Promise<RegistryResponse> {
    const { http, pull, subject } = this.#options;
    return await http.send({
      op: OP,
      subject,
      method: 'GET',
      url,
      headers: { accept: MEDIA.ociIndex },
      scopes: pull,
      signal: options.signal ?? null,
      expect: [200],
    });
  }
}

/** The result of `list`; null when its error means that there is no list. */
async function unlessNone<T>(list: () => Promise<T>, none = NO_LIST): Promise<T | null> {
  try {
    return await list();
  } catch (error) {
    if (error instanceof LacunaError && none.includes(error.code)) return null;
    throw error;
  }
}

/** Whether a response is a web page: a redirect to a login page ends with 200, too. */
const isWebPage = (response: RegistryResponse): boolean =>
  response.header('content-type')?.startsWith('text/html') === true;

/** The URL of the next page, from the header `Link: <URL>; rel="next"` (RFC 5988); null for the last page. */
export function nextPage(response: RegistryResponse): URL | null {
  const target = /<([^<>]*)>\s*;\s*rel="?next"?/i.exec(response.header('link') ?? '')?.[1];
  if (target === undefined) return null;
  const header = (name: string) => (name === 'location' ? target : response.header(name));
  return resolveLocation({ ...response, header }, { op: OP, subject: response.url.host });
}
