/**
 * The proxy for a URL, from the environment as Go programs read it (golang.org/x/net/http/httpproxy), so that settings
 * for docker, containerd and skopeo work here. The URL of a proxy may contain a password and is never printed.
 */
import { BlockList, isIP, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { LacunaError } from '../../errors.ts';
import { keepSecret } from '../../secrets.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The proxy for requests to `url`; null for direct ones. CONFIG or UNSUPPORTED for a proxy that cannot be used. */
export function proxyFor(url: URL, env: Environment = process.env): URL | null {
  const isSecure = url.protocol === 'https:';
  const names = isSecure ? ['HTTPS_PROXY', 'https_proxy'] : ['HTTP_PROXY', 'http_proxy'];
  const name = names.find((it) => env[it]);
  if (name === undefined) return null;
  // In a CGI program HTTP_PROXY is the request's header `Proxy` (CVE-2016-5385).
  if (!isSecure && env.REQUEST_METHOD) return null;
  if (isExempt(url, env.NO_PROXY || env.no_proxy || '')) return null;
  return parseProxy(name, env[name]!);
}

/** The header `Basic …` for a proxy whose URL has a user; else null. */
export function proxyAuthorization(proxy: URL): string | null {
  if (proxy.username === '') return null;
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const encoded = Buffer.from(pair).toString('base64');
  keepSecret(encoded);
  return `Basic ${encoded}`;
}

function parseProxy(name: string, text: string): URL {
  const fail = (code: 'CONFIG' | 'UNSUPPORTED', problem: string): LacunaError =>
    new LacunaError(code, `${name} ${problem}`, { op: 'connect', subject: name, hint: 'for example http://HOST:PORT' });
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(full)) throw fail('CONFIG', 'is not the URL of a proxy');
  const url = new URL(full);
  if (decoded(url.username) === null || decoded(url.password) === null)
    throw fail('CONFIG', 'has a % in its user or password that is not followed by two hex digits (write it as %25)');
  if (url.protocol === 'http:' || url.protocol === 'https:') return url;
  throw fail(
    'UNSUPPORTED',
    `names a ${url.protocol.slice(0, -1)} proxy, and only http and https proxies are supported`,
  );
}

/** The decoded text; null when it is not percent-encoded UTF-8. */
function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/**
 * Whether a URL is reached without a proxy: loopback hosts, and entries of `noProxy`: `*`, addresses, CIDRs, domains
 * with their subdomains, each optionally with a port.
 */
function isExempt(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  if (host === 'localhost' || inSubnet(host, '127.0.0.0/8') || inSubnet(host, '::1/128')) return true;
  return noProxy
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => entry !== '' && (entry === '*' || inSubnet(host, entry) || isListed(host, port, entry)));
}

function inSubnet(host: string, cidr: string): boolean {
  const match = /^([0-9a-f.:]+)\/([0-9]{1,3})$/.exec(cidr);
  const kind = isIP(match?.[1] ?? '');
  if (match === null || kind === 0 || isIP(host) === 0 || Number(match[2]) > (kind === 6 ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(match[1]!, Number(match[2]), kind === 6 ? 'ipv6' : 'ipv4');
  return list.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

function isListed(host: string, port: string, entry: string): boolean {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(entry);
  const name = match === null ? entry.replace(/^\[|\]$/g, '') : (match[1] ?? match[2]!);
  const isPort = match === null || match[3] === '' || match[3] === port;
  if (name === '' || !isPort) return false;
  if (isIP(name) !== 0) return inSubnet(host, `${name}/${isIPv6(name) ? 128 : 32}`);
  const domain = name.replace(/^\*(?=\.)/, '');
  const isSubdomainOnly = domain.startsWith('.');
  const ascii = domainToASCII(isSubdomainOnly ? domain.slice(1) : domain) || domain.replace(/^\./, '');
  return host.endsWith(`.${ascii}`) || (!isSubdomainOnly && host === ascii);
}
