/**
 * Certificate authorities that TLS trusts: the system's, found as Go's crypto/x509 finds them (so that certificates
 * that docker, containerd and curl accept are accepted here), those of `NODE_EXTRA_CA_CERTS`, and those of the caller.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { MAX_CERTIFICATES } from '../config/certificates.ts';
import { LacunaError } from '../errors.ts';

/** Paths of the bundle on each distribution; the first that exists is the system's bundle. */
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
  /** PEM text of authorities that are trusted in addition to the system's. */
  readonly ca?: string | null;
  /** PEM texts of the client certificate, and of its key. */
  readonly cert?: string | null;
  readonly key?: string | null;
  /** Verify the certificate of the server. Default true. */
  readonly verify?: boolean;
}

/** `options` in the form that Node's `tls.connect` takes. */
export function tlsSettings(options: TlsOptions): { secureContext: SecureContext; rejectUnauthorized: boolean } {
  return { secureContext: contextOf(options), rejectUnauthorized: options.verify !== false };
}

/** Contexts by their options: parsing the system's authorities takes 10 ms, and every connection needs a context. */
const contexts = new Map<string, SecureContext>();
const MAX_CONTEXTS = 32;

function contextOf({ ca = null, cert = null, key = null }: TlsOptions): SecureContext {
  const name = JSON.stringify([ca, cert, key]);
  const cached = contexts.get(name);
  if (cached !== undefined) return cached;
  const authorities = ca === null ? [] : certificatesOf(ca);
  if (ca !== null && authorities.length === 0) throw unusable('ca', 'it has no certificate in PEM form');
  const made = makeContext([...systemAuthorities(), ...authorities], cert, key);
  if (contexts.size >= MAX_CONTEXTS) contexts.clear();
  contexts.set(name, made);
  return made;
}

function makeContext(ca: string[], cert: string | null, key: string | null): SecureContext {
  if ((cert === null) !== (key === null)) throw unusable('cert, key', 'both are needed, and one is missing');
  if (cert === null || key === null) return createSecureContext({ ca });
  try {
    return createSecureContext({ ca, cert, key });
  } catch {
    // The library's message may quote the key, so it is dropped.
    throw unusable('cert, key', 'they are not a certificate and its unencrypted key, both in PEM form');
  }
}

const unusable = (subject: string, problem: string): LacunaError =>
  new LacunaError('CONFIG', `unusable TLS option: ${problem}`, { op: 'connect', subject });

/** The certificates one by one, so that OpenSSL skips only a damaged one. */
const certificatesOf = (pem: string): string[] => pem.match(PEM_CERTIFICATE) ?? [];

let system: readonly string[] | null = null;

/** Authorities of the system, read once: a new one takes effect in the next process. */
function systemAuthorities(): readonly string[] {
  system ??= readAuthorities(process.env);
  return system;
}

/** The system's authorities, or Node's own where the system has none, and those of `NODE_EXTRA_CA_CERTS`. */
export function readAuthorities(
  env: Readonly<Record<string, string | undefined>>,
  bundles: readonly string[] = BUNDLES,
  directories: readonly string[] = DIRECTORIES,
): readonly string[] {
  const files = env.SSL_CERT_FILE ? [env.SSL_CERT_FILE] : bundles;
  const bundle = files.map(readCertificates).find((certificates) => certificates.length > 0) ?? [];
  const folders = env.SSL_CERT_DIR ? env.SSL_CERT_DIR.split(':') : bundle.length > 0 ? [] : directories;
  const authorities = [...bundle, ...folders.flatMap(readDirectory)];
  const extra = env.NODE_EXTRA_CA_CERTS ? readCertificates(env.NODE_EXTRA_CA_CERTS) : [];
  return [...new Set([...(authorities.length > 0 ? authorities : rootCertificates), ...extra])];
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
    // A file that is missing or unreadable has no authorities.
    return [];
  }
}
