/**
 * Authentication at one registry: Basic, or Bearer tokens by scope (distribution spec, "Token Authentication"). Tokens
 * are cached until shortly before they expire, and requests that need the same token share one token request.
 */
import { z } from 'zod';
import type { CredentialSource, Credentials } from '../../access/credential-source.ts';
import { FormatError, LacunaError, toLacunaError } from '../../errors.ts';
import { parseJson } from '../../image/json.ts';
import { keepSecret } from '../../secrets.ts';
import { parseChallenges } from './challenge.ts';
import { followRedirects } from './redirect.ts';
import { plainUrl, type RegistryResponse, type RequestContext, readBody, responseError } from './response.ts';
import { abortError, discard, type Transport, transportError } from './transport.ts';

const MAX_TOKEN_BODY = 1024 * 1024;
/** Lifetime of a token in seconds when its server does not say; the default of the specification. */
const DEFAULT_LIFETIME = 60;
/** Fraction of a token's lifetime during which it is used, so that it does not expire in transit. */
const USABLE_LIFETIME = 0.9;
const CLIENT_ID = 'lacuna';
const OP = 'authenticate';

/** Response of a token server. Fields of a wrong type count as absent: only the token is needed. */
const tokenResponse = z.object({
  token: z.string().optional().catch(undefined),
  access_token: z.string().optional().catch(undefined),
  // Some servers send a string (distribution#1746).
  expires_in: z.coerce.number().positive().max(1e9).optional().catch(undefined),
});

interface Bearer {
  readonly scheme: 'bearer';
  readonly realm: URL;
  readonly service: string | null;
}

type Scheme = Bearer | { readonly scheme: 'basic' };

interface Token {
  readonly header: string;
  /** Milliseconds on the clock of `performance.now()`, which is monotonic. */
  readonly usableUntil: number;
}

/** Characters of a token that may go into a header (servers send more than RFC 6750 2.1 allows). */
const TOKEN = /^[\x21-\x7e]+$/;
const SCOPE = /^[a-z]+(?:\([a-z]+\))?:[^\s"]{1,512}:[a-z*,]{1,64}$/;

export interface AuthorizerOptions {
  /** The registry's name as in references and Docker's config. */
  readonly host: string;
  /** URL of the registry's API. */
  readonly base: URL;
  readonly credentials: CredentialSource | null;
  readonly transport: Transport;
}

export class Authorizer {
  readonly #options: AuthorizerOptions;
  #scheme: Scheme | null = null;
  readonly #headers = new Map<string, Token>();
  readonly #pending = new Map<string, Promise<Token>>();
  /** Scopes that the registry required in addition to ours, by the key of ours. */
  readonly #learned = new Map<string, readonly string[]>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** The `Authorization` header for a request with these scopes; null while the registry has not required one. */
  async header(scopes: readonly string[], signal: AbortSignal | null): Promise<string | null> {
    if (this.#scheme === null) return null;
    const key = keyOf(scopes);
    const cached = this.#headers.get(key);
    if (cached !== undefined && performance.now() < cached.usableUntil) return cached.header;
    const token = await unlessAborted(this.#obtain(key, this.#scheme, scopes), signal, this.#options.host);
    return token.header;
  }

  /**
   * Reads the challenge of a registry that refused a request with the header `used`, and returns the header for another
   * try. Throws UNAUTHORIZED when there are no credentials to try.
   */
  async refused(
    response: RegistryResponse,
    scopes: readonly string[],
    used: string | null,
    signal: AbortSignal | null,
  ): Promise<string> {
    const key = keyOf(scopes);
    const { scheme, scope } = this.#readChallenge(response);
    await discard(response);
    const before = this.#scheme;
    this.#scheme = scheme;
    if (scope.length > 0) this.#learned.set(key, scope);
    // Another request may have received a new token in the meantime.
    if (used !== null && this.#headers.get(key)?.header === used) this.#headers.delete(key);
    try {
      const header = await this.header(scopes, signal);
      if (header !== null) return header;
    } catch (error) {
      // Other requests may not need credentials: one part of a registry may be private and the rest public.
      this.#scheme = before;
      throw error;
    }
    throw this.#unauthorized('the registry requires authentication, and no scheme is left to try');
  }

  #readChallenge(response: RegistryResponse): { scheme: Scheme; scope: string[] } {
    const { base, host } = this.#options;
    const challenges = parseChallenges(response.header('www-authenticate') ?? '');
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer' && challenge.parameters.has('realm'));
    if (bearer !== undefined) {
      const text = bearer.parameters.get('realm')!;
      const realm = URL.canParse(text) ? new URL(text) : null;
      const isSafe = realm?.protocol === 'https:' || (realm?.protocol === 'http:' && base.protocol === 'http:');
      if (realm === null || !isSafe) {
        throw new LacunaError(
          'PROTOCOL',
          `the realm of the registry's token server is not an ${base.protocol === 'http:' ? 'HTTP' : 'HTTPS'} URL`,
          { op: OP, subject: host },
        );
      }
      realm.username = '';
      realm.password = '';
      const scope = (bearer.parameters.get('scope') ?? '').split(' ').filter((part) => SCOPE.test(part));
      return {
        scheme: { scheme: 'bearer', realm, service: bearer.parameters.get('service') ?? null },
        scope: scope.slice(0, 16),
      };
    }
    if (challenges.some((challenge) => challenge.scheme === 'basic')) return { scheme: { scheme: 'basic' }, scope: [] };
    const schemes = challenges.map((challenge) => challenge.scheme.slice(0, 32)).join(', ');
    throw this.#unauthorized(
      schemes === ''
        ? 'the registry does not say how to authenticate (no WWW-Authenticate header)'
        : `unsupported authentication scheme ${JSON.stringify(schemes)} (supported: Bearer, Basic)`,
    );
  }

  /** Requests a token; callers that need the same one share the request. */
  #obtain(key: string, scheme: Scheme, scopes: readonly string[]): Promise<Token> {
    const running = this.#pending.get(key);
    if (running !== undefined) return running;
    const requested = [...new Set([...scopes, ...(this.#learned.get(key) ?? [])])];
    const started = this.#make(scheme, requested).then((token) => {
      this.#headers.set(key, token);
      return token;
    });
    const forget = (): void => void this.#pending.delete(key);
    started.then(forget, forget);
    this.#pending.set(key, started);
    return started;
  }

  async #make(scheme: Scheme, scopes: readonly string[]): Promise<Token> {
    const { credentials: source, host } = this.#options;
    const credentials = source === null ? null : await callSource(source, host);
    if (credentials !== null)
      keepSecret('identityToken' in credentials ? credentials.identityToken : credentials.password);
    if (scheme.scheme === 'bearer') return await this.#requestToken(scheme, scopes, credentials);
    if (credentials === null)
      throw this.#unauthorized('credentials are required, and there are none for this registry');
    if ('identityToken' in credentials)
      throw this.#unauthorized('a password is required, and the stored login has only an identity token');
    return { header: basic(credentials), usableUntil: Number.POSITIVE_INFINITY };
  }

  async #requestToken(bearer: Bearer, scopes: readonly string[], credentials: Credentials | null): Promise<Token> {
    const context: RequestContext = { op: OP, subject: this.#options.host };
    const response = await this.#callTokenServer(bearer, scopes, credentials, context);
    if (response.status === 401 || response.status === 403) {
      await discard(response);
      throw this.#unauthorized(
        credentials === null
          ? 'credentials are required, and there are none for this registry'
          : "the registry's token server refused the credentials",
      );
    }
    if (response.status !== 200) throw await responseError(response, context);
    const token = parseToken(await readBody(response, MAX_TOKEN_BODY, context), context);
    if (token !== null) return token;
    throw new LacunaError('PROTOCOL', `the response of ${plainUrl(response.url)} has no usable token`, context);
  }

  async #callTokenServer(
    bearer: Bearer,
    scopes: readonly string[],
    credentials: Credentials | null,
    context: RequestContext,
  ): Promise<RegistryResponse> {
    const { transport } = this.#options;
    const url = new URL(bearer.realm);
    const parameters: [name: string, value: string][] = bearer.service === null ? [] : [['service', bearer.service]];
    const headers: Record<string, string> = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': CLIENT_ID,
    };
    const isRefresh = credentials !== null && 'identityToken' in credentials;
    try {
      if (isRefresh) {
        parameters.push(['grant_type', 'refresh_token'], ['client_id', CLIENT_ID]);
        parameters.push(['refresh_token', credentials.identityToken], ['scope', scopes.join(' ')]);
        headers['content-type'] = 'application/x-www-form-urlencoded';
        const body = Buffer.from(new URLSearchParams(parameters).toString());
        return { ...(await transport.request({ method: 'POST', url, headers, body, signal: null })), url };
      }
      for (const [name, value] of parameters) url.searchParams.append(name, value);
      for (const scope of scopes) url.searchParams.append('scope', scope);
      const own = credentials === null ? null : basic(credentials);
      return await followRedirects({ ...context, method: 'GET', url }, own, async (at, authorization) => {
        if (own !== null && authorization === null)
          throw new LacunaError(
            'PROTOCOL',
            `${plainUrl(url)} redirects to ${at.host}, and credentials are not sent to another host`,
            context,
          );
        const all = authorization === null ? headers : { ...headers, authorization };
        return {
          ...(await transport.request({ method: 'GET', url: at, headers: all, body: null, signal: null })),
          url: at,
        };
      });
    } catch (error) {
      throw transportError(error, url, context.op, context.subject);
    }
  }

  #unauthorized(problem: string): LacunaError {
    const { host } = this.#options;
    return new LacunaError('UNAUTHORIZED', problem, {
      op: OP,
      subject: host,
      hint: `log in with: lacuna login ${host} (a docker login or podman login is found, too)`,
    });
  }
}

/** The token in the response of a token server; null when it has no usable one. */
function parseToken(body: Buffer, context: RequestContext): Token | null {
  let value: unknown;
  try {
    value = parseJson(body, { ...context, limit: MAX_TOKEN_BODY });
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
  const { data } = tokenResponse.safeParse(value);
  const token = [data?.token, data?.access_token].find((text) => text && TOKEN.test(text));
  if (!token) return null;
  keepSecret(token);
  const lifetime = (data?.expires_in || DEFAULT_LIFETIME) * 1000;
  return { header: `Bearer ${token}`, usableUntil: performance.now() + lifetime * USABLE_LIFETIME };
}

/** Calls the caller's function for credentials, whose errors may be of any type. */
async function callSource(source: CredentialSource, host: string): Promise<Credentials | null> {
  try {
    return await source(host);
  } catch (error) {
    throw toLacunaError(error, { op: OP, subject: host });
  }
}

const keyOf = (scopes: readonly string[]): string => [...scopes].sort().join(' ');

function basic(credentials: { readonly username: string; readonly password: string }): string {
  const encoded = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
  keepSecret(encoded);
  return `Basic ${encoded}`;
}

/** Waits for `work`, or for `signal`; `work` continues for other waiting callers when the signal aborts this one. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | null, subject: string): Promise<T> {
  if (signal === null) return await work;
  if (signal.aborted) throw abortError(signal, OP, subject);
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(abortError(signal, OP, subject));
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
