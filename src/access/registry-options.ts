/** How a registry is reached: the one rule for plain HTTP and for the authorities to trust. */
import { readCertificates } from '../config/certificates.ts';

/** The part of the configuration about registries. */
interface RegistryConfig {
  /** Hosts reached without TLS besides loopback ones. */
  readonly plain_http: readonly string[];
  /** Path of a PEM file to trust besides the system's authorities; empty: none. */
  readonly ca: string;
}

/** What a caller says of one registry. */
interface RegistryOverrides {
  readonly host: string;
  /** Null: as configured. */
  readonly plainHttp: boolean | null;
  /** Path of a PEM file; empty: as configured. */
  readonly ca: string;
}

/** What the caller says wins over the configuration; null: HTTP for loopback hosts alone. */
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
