/** Redirects of registries, their token servers and their storage. */
import { LacunaError } from '../../errors.ts';
import { plainUrl, type RegistryResponse, type RequestContext } from './response.ts';
import { discard, type Method } from './transport.ts';

export const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** Redirects that keep the method and the body. */
const STRICT_REDIRECTS: readonly number[] = [307, 308];

/** The response at the end of the redirects, of any status. `authorization` is sent to its origin only. */
export async function followRedirects(
  initial: RequestContext & { readonly method: Method; readonly url: URL },
  authorization: string | null,
  request: (url: URL, authorization: string | null) => Promise<RegistryResponse>,
): Promise<RegistryResponse> {
  const { method, op, subject } = initial;
  let url = initial.url;
  let secret = authorization;
  for (let hop = 0; ; hop++) {
    const response = await request(url, secret);
    if (!REDIRECTS.includes(response.status)) return response;
    await discard(response);
    const next = resolveLocation(response, initial);
    const isRead = method === 'GET' || method === 'HEAD';
    if (hop === MAX_REDIRECTS || (!isRead && !STRICT_REDIRECTS.includes(response.status))) {
      const problem =
        hop === MAX_REDIRECTS ? `more than ${MAX_REDIRECTS} redirects` : `a ${response.status} redirect of a ${method}`;
      throw new LacunaError('PROTOCOL', `${plainUrl(initial.url)}: ${problem}`, { op, subject });
    }
    if (next.origin !== url.origin) secret = null;
    url = next;
  }
}

/** The URL of `Location`. Throws PROTOCOL when it is missing, not HTTP, or leads from HTTPS to HTTP. */
export function resolveLocation(response: RegistryResponse, { op, subject }: RequestContext): URL {
  const location = response.header('location');
  const fail = (problem: string): LacunaError =>
    new LacunaError('PROTOCOL', `${plainUrl(response.url)} ${problem}`, { op, subject });
  if (location === null || !URL.canParse(location, response.url.href)) throw fail('sent no usable Location');
  const url = new URL(location, response.url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw fail('redirects to a URL that is not HTTP or HTTPS');
  if (url.protocol === 'http:' && response.url.protocol === 'https:')
    throw fail('redirects from HTTPS to plain HTTP, which is refused');
  url.username = '';
  url.password = '';
  url.hash = '';
  return url;
}
