/** Transports of references, suggestions for misspelt ones, and redaction of references for messages. */
import { nearest } from '../suggest.ts';

const TRANSPORTS = ['docker', 'oci', 'oci-archive', 'docker-archive', 'dir', 'rafs'] as const;
const PATH_TRANSPORTS: readonly string[] = TRANSPORTS.filter((name) => name !== 'docker');

/** Transports of skopeo and containers/image that would otherwise be taken for a repository with a tag. */
const UNSUPPORTED: readonly string[] = ['docker-daemon', 'containers-storage', 'ostree', 'sif', 'tarball'];

const PREFIX = /^([A-Za-z][A-Za-z-]*):(\/\/)?/;

/** Whether `text` begins with a transport, or with what can only be meant as one. */
export function hasTransport(text: string): boolean {
  const [, name = '', slashes] = PREFIX.exec(text) ?? [];
  return slashes !== undefined || PATH_TRANSPORTS.includes(name) || UNSUPPORTED.includes(name);
}

/** The likely reference when the transport is misspelt; null when no transport is similar. */
export function nearTransport(text: string): string | null {
  const [prefix = '', name = ''] = PREFIX.exec(text) ?? [];
  const meant = nearest(name.toLowerCase(), TRANSPORTS);
  if (meant === null) return null;
  const rest = text.slice(prefix.length);
  return meant === 'docker' ? `docker://${rest.replace(/^\/+/, '')}` : `${meant}:${rest}`;
}

/** A problem of the transport, with a hint; null when it is valid. A name similar to a short one may be a repository's. */
export function transportProblem(text: string): readonly [problem: string, hint: string] | null {
  const [, name, slashes] = PREFIX.exec(text) ?? [];
  if (name === undefined || text.startsWith('docker://') || PATH_TRANSPORTS.includes(name)) return null;
  const repository = `write docker://${text} if it is a repository`;
  if (UNSUPPORTED.includes(name))
    return [`${name}: is not supported`, `copy it to an oci: directory, or ${repository}`];
  if (/^https?$/.test(name) && slashes !== undefined) {
    return ['a reference is not a URL', 'write docker://HOST/REPOSITORY:TAG'];
  }
  const meant = nearTransport(text);
  const hint = meant === null ? `supported: docker://, ${PATH_TRANSPORTS.join(':, ')}:` : `did you mean ${meant}?`;
  if (slashes !== undefined) return [`${JSON.stringify(`${name}://`)} is not a transport`, hint];
  const isPort = /^[^:]+:[0-9]+(?:\/|$)/.test(text);
  const isMeant = name.length >= MISTAKABLE || name !== name.toLowerCase() || (name === 'docker' && text.includes('/'));
  if (meant === null || isPort || !isMeant) return null;
  return [`${JSON.stringify(`${name}:`)} is not a transport`, `${hint} Or ${repository}`];
}

/** Repositories may have names like `oc` and `dirs`, and hardly ones like `oci-archve`. */
const MISTAKABLE = 8;

/**
 * The text for a message: a name and password in front of a host, with or without a transport, are left out. What is
 * behind the last @ is shown; what is in front of it only where a digest, or what was meant as one, follows.
 */
export function withoutSecrets(text: string): string {
  const [prefix = '', name = ''] = PREFIX.exec(text) ?? [];
  const at = text.lastIndexOf('@');
  if (at < 0 || PATH_TRANSPORTS.includes(name)) return text;
  const isDigest = /^(?:sha[0-9]+|md5|blake[0-9a-z]*):[^/@]*$/i.test(text.slice(at + 1));
  if (!isDigest) return `${prefix.endsWith('//') ? prefix : ''}***${text.slice(at)}`;
  return withoutSecrets(text.slice(0, at)) + text.slice(at);
}
