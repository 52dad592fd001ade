/** The file of certificates that a configuration names. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { problem, reasonOf } from './problem.ts';

/** Whoever reads the file later, the daemon for one, reads it at its start and from another directory. */
export async function checkCertificates(file: string, subject: string): Promise<void> {
  if (file === '') return;
  if (!isAbsolute(file)) throw problem(subject, 'registry.ca', 'must be an absolute path', null);
  const pem = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
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
