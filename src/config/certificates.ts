/** Files of certificates that the user names. */
import { X509Certificate } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { readNamed } from '../open-file.ts';
import { problem, reasonOf } from './problem.ts';

/** Bytes. A system's whole store of authorities is 0.5 MB. */
export const MAX_CERTIFICATES = 16 * 1024 * 1024;

/** The text of a file of certificates or of a key. NOT_FOUND, FORBIDDEN, FORMAT. */
export const readCertificates = (path: string): Promise<string> =>
  readNamed(path, MAX_CERTIFICATES, {
    op: 'read certificates',
    hint: 'a file with certificates in PEM form',
  });

/** The path must be absolute: the daemon reads the file from another working directory. */
export async function checkCertificates(file: string, subject: string): Promise<void> {
  if (file === '') return;
  if (!isAbsolute(file)) throw problem(subject, 'registry.ca', 'must be an absolute path', null);
  const pem = await readCertificates(file).catch((cause: NodeJS.ErrnoException) => {
    throw problem(subject, 'registry.ca', `cannot be read: ${reasonOf(cause)}`, null, cause);
  });
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g);
  if (blocks === null) throw problem(subject, 'registry.ca', `has no PEM certificate: ${file}`, null);
  for (const [at, block] of blocks.entries()) {
    try {
      new X509Certificate(block);
    } catch (cause) {
      throw problem(subject, 'registry.ca', `certificate ${at + 1} of ${file} does not parse`, null, cause);
    }
  }
}
