/** Who may do what in the registry of the tests: Basic, or Bearer tokens from its own token server. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Reply } from './registry-faults.ts';

export const USER = 'ada';
export const PASSWORD = 'correct:horse battery';
export const IDENTITY_TOKEN = 'identity-token-of-ada';

const SERVICE = 'test, registry';

export interface AuthOptions {
  readonly auth: 'token' | 'basic' | null;
  /** Seconds; null = the answer does not say. Default 300. */
  readonly tokenLifetime?: number | null;
  /** The token server's answer with a token. */
  readonly tokenAnswer?: (token: string) => object;
  /** What the realm has behind its path. */
  readonly realmQuery?: string;
  /** Null = the challenge names none. */
  readonly service?: string | null;
  /** Whether strangers get tokens for pulling. Default false. */
  readonly anonymousPull?: boolean;
}

interface Token {
  readonly scopes: readonly string[];
  expired: boolean;
}

const json = (status: number, value: unknown, headers: Record<string, string> = {}): Reply => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: Buffer.from(JSON.stringify(value)),
});

export class RegistryAuth {
  readonly #options: AuthOptions;
  readonly #tokens = new Map<string, Token>();
  /** Tokens given out. */
  issued = 0;

  constructor(options: AuthOptions) {
    this.#options = options;
  }

  /** Every token that is out is refused from now on, whatever it was promised. */
  expireTokens(): void {
    for (const token of this.#tokens.values()) token.expired = true;
  }

  /** Whether the request may do everything that `scopes` say; else the 401 that tells how. */
  check(request: IncomingMessage, origin: string, scopes: readonly string[]): Reply | null {
    const { auth } = this.#options;
    if (auth === null) return null;
    const header = request.headers.authorization ?? '';
    if (auth === 'basic') {
      if (isUser(header)) return null;
      return denied({ 'www-authenticate': 'Basic realm="test registry"' });
    }
    const token = this.#tokens.get(header.replace(/^Bearer /, ''));
    const granted = token !== undefined && !token.expired && scopes.every((scope) => covers(token.scopes, scope));
    if (granted) return null;
    const { realmQuery = '', service = SERVICE } = this.#options;
    const named = service === null ? '' : `,service="${service}"`;
    const challenge = `Bearer realm="${origin}/token${realmQuery}"${named},scope="${scopes.join(' ')}"`;
    return denied({ 'www-authenticate': challenge });
  }

  /** The token server. */
  token(request: IncomingMessage, body: Buffer): Reply {
    const isPost = request.method === 'POST';
    const query = isPost ? new URLSearchParams(body.toString('utf8')) : new URL(request.url!, 'http://x').searchParams;
    const scopes = query.getAll('scope').flatMap((scope) => scope.split(' '));
    const { service = SERVICE, tokenAnswer } = this.#options;
    if (service !== null && query.get('service') !== service)
      return json(400, { errors: [{ code: 'UNKNOWN_SERVICE' }] });
    const isKnown = isPost
      ? query.get('refresh_token') === IDENTITY_TOKEN
      : isUser(request.headers.authorization ?? '');
    const isStranger = !isPost && request.headers.authorization === undefined;
    const pulls = scopes.every((scope) => scope.endsWith(':pull'));
    if (!isKnown && !(isStranger && this.#options.anonymousPull === true && pulls)) return denied({});
    const token = `token-${randomUUID()}`;
    this.#tokens.set(token, { scopes, expired: false });
    this.issued++;
    if (tokenAnswer !== undefined) return json(200, tokenAnswer(token));
    const lifetime = this.#options.tokenLifetime === undefined ? 300 : this.#options.tokenLifetime;
    const answer = isPost ? { access_token: token } : { token };
    return json(200, lifetime === null ? answer : { ...answer, expires_in: lifetime });
  }
}

const denied = (headers: Record<string, string>): Reply =>
  json(401, { errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }, headers);

const isUser = (header: string): boolean => header === `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}`;

function covers(granted: readonly string[], wanted: string): boolean {
  const actions = wanted.slice(wanted.lastIndexOf(':') + 1).split(',');
  const name = wanted.slice(0, wanted.lastIndexOf(':'));
  return granted.some((scope) => {
    const split = scope.lastIndexOf(':');
    const has = scope.slice(split + 1).split(',');
    return scope.slice(0, split) === name && actions.every((action) => has.includes(action));
  });
}
