/** Values of the registry options: hosts, logins, certificates. */

import type { Credentials } from '../access/credential-source.ts';
import { readCertificates } from '../config/certificates.ts';
import { LacunaError } from '../errors.ts';
import { parseReference } from '../image/reference.ts';
import type { StoreOptions } from '../registry/store.ts';
import { readPassword } from './password.ts';

/** The options of one registry, as commander has them. */
export interface Access {
  readonly plainHttp?: boolean;
  readonly tlsVerify?: string;
  readonly ca?: string;
  readonly certDir?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly creds?: string;
}

/** Hosts of the images that are in registries. An invalid reference is refused where it is used. */
export function hostsOf(images: readonly string[]): Set<string> {
  const hosts = images.flatMap((image) => {
    try {
      const reference = parseReference(image);
      return reference.transport === 'docker' ? [reference.host] : [];
    } catch {
      return [];
    }
  });
  return new Set(hosts);
}

export async function readCredentials(creds: string | undefined): Promise<Credentials | null> {
  if (creds === undefined) return null;
  const colon = creds.indexOf(':');
  const username = colon < 0 ? creds : creds.slice(0, colon);
  if (username === '') throw usage('a login begins with the name of the user', '--creds USER[:PASSWORD]');
  return { username, password: colon < 0 ? await readPassword(`Password of ${username}: `) : creds.slice(colon + 1) };
}

export async function certificatesOf(access: Access): Promise<Pick<StoreOptions, 'ca' | 'cert' | 'key'>> {
  const { certDir } = access;
  const kept = certDir === undefined ? {} : await (await import('../access/cert-dir.ts')).readCertDir(certDir);
  const [ca, cert, key] = await Promise.all([access.ca, access.cert, access.key].map(readPem));
  const authorities = [kept.ca, ca].filter((text) => text != null);
  const own = cert === null && key === null ? [kept.cert, kept.key] : [cert, key];
  return {
    ...(authorities.length === 0 ? {} : { ca: authorities.join('\n') }),
    ...(own[0] == null ? {} : { cert: own[0] }),
    ...(own[1] == null ? {} : { key: own[1] }),
  };
}

const readPem = async (path: string | undefined): Promise<string | null> =>
  path === undefined ? null : await readCertificates(path);

export function isTrue(option: string, value: string): boolean {
  if (value === 'true' || value === 'false') return value === 'true';
  throw usage(`${option} must be true or false`, null);
}

export const usage = (problem: string, hint: string | null): LacunaError =>
  new LacunaError('USAGE', problem, { op: 'options', ...(hint === null ? {} : { hint }) });
