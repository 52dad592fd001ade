/** Access to registries, from the configuration and from `lacuna pull`. Secrets stay in memory. */
import type { CredentialSource, Credentials } from '../access/credential-source.ts';
import { plainHttpOf, registryOptions } from '../access/registry-options.ts';
import { LacunaError } from '../errors.ts';
import { parseReference } from '../image/reference.ts';
import type { Log } from '../observe/log.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore } from '../registry/store.ts';
import type { ImageSource } from './info.ts';

export interface RegistryAccess {
  readonly host: string;
  readonly username?: string;
  readonly password?: string;
  readonly identityToken?: string;
  readonly plainHttp?: boolean;
}

export interface RegistriesOptions {
  /** Hosts reached without TLS besides loopback ones. */
  readonly plainHttp: readonly string[];
  /** Path of a PEM file to trust besides the system's authorities; empty: none. */
  readonly ca: string;
  /** Credentials of hosts that `lacuna pull` set none for. */
  readonly credentials: CredentialSource;
  readonly log: Log;
}

export class Registries {
  readonly #options: RegistriesOptions;
  readonly #access = new Map<string, RegistryAccess>();

  constructor(options: RegistriesOptions) {
    this.#options = options;
  }

  get ca(): string {
    return this.#options.ca;
  }

  set(access: RegistryAccess): void {
    if (access.host === '') throw new LacunaError('USAGE', 'a registry needs a host');
    this.#access.set(access.host, access);
  }

  /** Credentials that were set for the host, or null. */
  credentials(host: string): Credentials | null {
    const access = this.#access.get(host);
    if (access?.identityToken) return { identityToken: access.identityToken };
    if (access?.username) return { username: access.username, password: access.password ?? '' };
    return null;
  }

  /** The repository of `image`, a `docker://` reference without its transport. REFERENCE when it is not one. */
  sourceOf(image: string): ImageSource {
    const reference = parseReference(`docker://${image}`);
    if (reference.transport !== 'docker') throw new LacunaError('INTERNAL', 'not a registry reference');
    const { host, repository } = reference;
    const plainHttp = this.#access.get(host)?.plainHttp ?? null;
    return { host, repository, plainHttp: plainHttpOf({ host, plainHttp }, this.#options.plainHttp) };
  }

  /** Opens the repository as a store; the caller closes it. */
  async open(source: ImageSource): Promise<ImageStore> {
    const { log, ca, plainHttp } = this.#options;
    return openStore(
      { transport: 'docker', host: source.host, repository: source.repository, tag: null, digest: null },
      {
        log,
        credentials: async (host, repository) => this.credentials(host) ?? this.#options.credentials(host, repository),
        ...(await registryOptions({ ...source, ca }, { plain_http: plainHttp, ca })),
      },
    );
  }
}
