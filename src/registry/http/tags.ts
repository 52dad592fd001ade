/** Tags of a repository (distribution-spec, "Listing Tags"), page by page. */
import { FormatError, LacunaError } from '../../errors.ts';
import { parseJson } from '../../image/json.ts';
import { MAX_MANIFEST_SIZE } from '../../image/manifest.ts';
import { isTag } from '../../image/reference.ts';
import { nextPage } from '../referrers.ts';
import type { SignalOptions } from '../store.ts';
import type { RegistryHttp } from './http.ts';
import { readBody } from './response.ts';

/** Tags that are requested per page; a registry may send fewer. */
const PAGE = 1000;
/** Maximum pages of a list: far more than the ten thousand tags of a repository of a build system need. */
const MAX_PAGES = 1000;

const OP = 'list tags';

export interface TagsOptions {
  readonly http: RegistryHttp;
  /** `https://HOST/v2/NAME/`. */
  readonly repository: URL;
  readonly pull: readonly string[];
  readonly subject: string;
}

/** The tags in the registry's order. NOT_FOUND when the repository does not exist. */
export async function* listTags(options: TagsOptions, { signal }: SignalOptions): AsyncGenerator<string> {
  const { http, repository, pull, subject } = options;
  let url = new URL('tags/list', repository);
  url.searchParams.set('n', String(PAGE));
  for (let page = 0; page < MAX_PAGES; page++) {
    const request = { op: OP, subject, method: 'GET' as const, url, scopes: pull, signal: signal ?? null };
    const response = await http.send({ ...request, expect: [200] });
    yield* tagsIn(await readBody(response, MAX_MANIFEST_SIZE, { op: OP, subject }), subject);
    const next = nextPage(response);
    if (next === null) return;
    if (next.origin !== url.origin || next.href === url.href) break;
    url = next;
  }
  throw new LacunaError(
    'PROTOCOL',
    `the list of tags has more than ${MAX_PAGES} pages, repeats a page, or leads to another host`,
    { op: OP, subject },
  );
}

function tagsIn(bytes: Buffer, subject: string): string[] {
  const document = parseJson(bytes, { op: OP, subject, limit: MAX_MANIFEST_SIZE });
  const tags = typeof document === 'object' && document !== null && 'tags' in document ? document.tags : null;
  // Go programs write null for an empty list.
  if (tags === null) return [];
  if (!Array.isArray(tags)) throw new FormatError('tags', 'not a list', { op: OP, subject });
  return tags.map((tag: unknown) => {
    if (typeof tag === 'string' && isTag(tag)) return tag;
    throw new FormatError('tags', `${JSON.stringify(tag)?.slice(0, 128)} is not a tag`, { op: OP, subject });
  });
}
