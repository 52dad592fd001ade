/** Certificates made by openssl: an authority's own, and those that it signs. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** PEM texts. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate for `name` (a DNS name, or `IP:…`), signed by `authority`, or by itself: then it may sign others. */
export function makeCertificate(name: string, authority?: Certificate): Certificate {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-certificate-'));
  const path = (file: string): string => join(dir, file);
  const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { stdio: 'ignore' });
  const alternative = `subjectAltName=${name.startsWith('IP:') ? name : `DNS:${name}`}`;
  try {
    const subject = ['-subj', `/CN=${name}`, '-keyout', path('key')];
    if (authority === undefined) {
      openssl('req', '-x509', ...NEW_KEY, '-days', '1', ...subject, '-out', path('cert'), '-addext', alternative);
    } else {
      openssl('req', ...NEW_KEY, ...subject, '-out', path('request'));
      writeFileSync(path('ca'), authority.cert);
      writeFileSync(path('ca-key'), authority.key);
      writeFileSync(path('extensions'), alternative);
      const signer = ['-CA', path('ca'), '-CAkey', path('ca-key'), '-CAcreateserial', '-days', '1'];
      openssl('x509', '-req', '-in', path('request'), ...signer, '-out', path('cert'), '-extfile', path('extensions'));
    }
    return { cert: readFileSync(path('cert'), 'utf8'), key: readFileSync(path('key'), 'utf8') };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
