/** Connection options of a registry: the one rule for plain HTTP and for the certificate authorities to trust. */
import { readCertificates } from '../config/certificates.ts';

/** The part of the configuration about registries. */
interface RegistryConfig {
  /** Hosts that are reached without TLS, in addition to loopback hosts. */
  readonly plain_http: readonly string[];
  /** Path of a PEM file of authorities that are trusted in addition to the system's; empty: none. */
  readonly ca: string;
}

/** Options of the caller for one registry, which win over the configuration. */
interface RegistryOverrides {
  readonly host: string;
  /** Whether to use plain HTTP; null: as configured. */
  readonly plainHttp: boolean | null;
  /** Path of a PEM file; empty: as configured. */
  readonly ca: string;
}

/** Whether to use plain HTTP: the caller's option, else the configuration; null: for loopback hosts only. */
export const plainHttpOf = (
  { host, plainHttp }: Omit<RegistryOverrides, 'ca'>,
  plainHosts: readonly string[],
): boolean | null => plainHttp ?? (plainHosts.includes(host) ? true : null);

/** The options of a store for the registry. NOT_FOUND, CONFIG or FORBIDDEN for the file of authorities. */
export async function registryOptions(overrides: RegistryOverrides, config: RegistryConfig) {
  const plainHttp = plainHttpOf(overrides, config.plain_http);
  const ca = overrides.ca || config.ca;
  return {
    ...(plainHttp === null ? {} : { plainHttp }),
    ...(ca === '' ? {} : { ca: await readCertificates(ca) }),
  };
}
