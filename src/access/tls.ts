/**
 * Whom TLS trusts: the system's certificate authorities, found as Go's crypto/x509 finds them (so that what docker,
 * containerd and curl trust is trusted here), those of `NODE_EXTRA_CA_CERTS`, and those that the caller gives.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { MAX_CERTIFICATES } from '../config/certificates.ts';
import { LacunaError } from '../errors.ts';

/** One of each distribution; the first that is there is the system's bundle. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Ubuntu, Gentoo, Arch
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL 6
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/pki/tls/cacert.pem', // OpenELEC
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', // RHEL 7 and later
  '/etc/ssl/cert.pem', // Alpine, macOS
];
const DIRECTORIES = ['/etc/ssl/certs', '/etc/pki/tls/certs'];

const PEM_CERTIFICATE = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

export interface TlsOptions {
  /** PEM text of authorities trusted beside the system's. */
  readonly ca?: string | null;
  /** PEM texts of the certificate that we show, and of its key. */
  readonly cert?: string | null;
  readonly key?: string | null;
  /** False: whoever answers is believed. Default true. */
  readonly verify?: boolean;
}

/** What Node's `tls.connect` takes of `options`. */
export function tlsSettings(options: TlsOptions): { secureContext: SecureContext; rejectUnauthorized: boolean } {
  return { secureContext: contextOf(options), rejectUnauthorized: options.verify !== false };
}

/** Contexts by what they are made of: parsing all authorities of the system takes 10 ms, and every connection needs one. */
const contexts = new Map<string, SecureContext>();
const MAX_CONTEXTS = 32;

function contextOf({ ca = null, cert = null, key = null }: TlsOptions): SecureContext {
  const name = JSON.stringify([ca, cert, key]);
  const cached = contexts.get(name);
  if (cached !== undefined) return cached;
  const authorities = ca === null ? [] : certificatesOf(ca);
  if (ca !== null && authorities.length === 0) throw unusable('ca', 'no certificate in PEM form');
  const made = makeContext([...systemAuthorities(), ...authorities], cert, key);
  if (contexts.size >= MAX_CONTEXTS) contexts.clear();
  contexts.set(name, made);
  return made;
}

function makeContext(ca: string[], cert: string | null, key: string | null): SecureContext {
  if ((cert === null) !== (key === null)) throw unusable('cert, key', 'one without the other');
  if (cert === null || key === null) return createSecureContext({ ca });
  try {
    return createSecureContext({ ca, cert, key });
  } catch {
    // The library's text may quote the key's file.
    throw unusable('cert, key', 'not a certificate in PEM form and its unencrypted key');
  }
}

const unusable = (subject: string, problem: string): LacunaError =>
  new LacunaError('CONFIG', `unusable TLS option: ${problem}`, { op: 'connect', subject });

/** One by one, so that OpenSSL skips a damaged one alone. */
const certificatesOf = (pem: string): string[] => pem.match(PEM_CERTIFICATE) ?? [];

let system: readonly string[] | null = null;

/** Read once: a new authority is seen by the next process. */
function systemAuthorities(): readonly string[] {
  system ??= readAuthorities(process.env);
  return system;
}

/** The system's authorities, Node's own where the system has none, and the extra ones that Node is told of. */
export function readAuthorities(
  env: Readonly<Record<string, string | undefined>>,
  bundles: readonly string[] = BUNDLES,
  directories: readonly string[] = DIRECTORIES,
): readonly string[] {
  const files = env.SSL_CERT_FILE ? [env.SSL_CERT_FILE] : bundles;
  const bundle = files.map(readCertificates).find((found) => found.length > 0) ?? [];
  const folders = env.SSL_CERT_DIR ? env.SSL_CERT_DIR.split(':') : bundle.length > 0 ? [] : directories;
  const found = [...bundle, ...folders.flatMap(readDirectory)];
  const extra = env.NODE_EXTRA_CA_CERTS ? readCertificates(env.NODE_EXTRA_CA_CERTS) : [];
  return [...new Set([...(found.length > 0 ? found : rootCertificates), ...extra])];
}

function readDirectory(path: string): string[] {
  try {
    return readdirSync(path).flatMap((name) => readCertificates(join(path, name)));
  } catch {
    return [];
  }
}

function readCertificates(path: string): string[] {
  try {
    const stats = statSync(path);
    return stats.isFile() && stats.size <= MAX_CERTIFICATES ? certificatesOf(readFileSync(path, 'utf8')) : [];
  } catch {
    // A store that is not there, or not for us, has no authorities.
    return [];
  }
}
