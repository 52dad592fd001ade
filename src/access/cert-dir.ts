/** Certificates of one registry in a folder, as docker and podman keep them: `*.crt`, `*.cert` and its `*.key`. */
import { readdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { readCertificates } from '../config/certificates.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { TlsOptions } from './tls.ts';

/** Folders that have one folder for each registry; the first that has the registry's counts. */
const certificateRoots = (): string[] => [
  join(homedir(), '.config/containers/certs.d'),
  '/etc/containers/certs.d',
  '/etc/docker/certs.d',
];

/** The certificates that the system keeps for `host` (`HOST[:PORT]`); none where it has no folder. */
export async function hostCertificates(
  host: string,
  roots: readonly string[] = certificateRoots(),
): Promise<TlsOptions> {
  for (const root of roots) {
    const dir = join(root, host);
    const names = await readdir(dir).catch(() => null);
    if (names !== null) return await certificatesIn(dir, names);
  }
  return {};
}

/** The certificates in `dir`: authorities, and the client's own with its key. */
export async function readCertDir(dir: string): Promise<TlsOptions> {
  const names = await readdir(dir).catch((error: unknown) => {
    throw toLacunaError(error, { op: 'read certificates', subject: dir });
  });
  return await certificatesIn(dir, names);
}

async function certificatesIn(dir: string, names: readonly string[]): Promise<TlsOptions> {
  const read = (name: string): Promise<string> => readCertificates(join(dir, name));
  const authorities = await Promise.all(names.filter((name) => name.endsWith('.crt')).map(read));
  const own = names.find((name) => name.endsWith('.cert'));
  const ca = authorities.length === 0 ? {} : { ca: authorities.join('\n') };
  if (own === undefined) return ca;
  const key = own.replace(/cert$/, 'key');
  if (names.includes(key)) return { ...ca, cert: await read(own), key: await read(key) };
  throw new LacunaError('CONFIG', `the client certificate ${own} has no key: ${key} is missing`, {
    op: 'read certificates',
    subject: dir,
    hint: 'CA certificates have names that end in .crt, not in .cert',
  });
}
