/**
 * Layers that their store does not have because they may not be distributed: their descriptors say where else they are
 * (`urls`; image-spec layer.md, "Non-Distributable Layers"). Whoever wrote the image chose those addresses, so what is
 * fetched from them carries no credentials and is verified as everything, and addresses that only this machine or this
 * network can reach are not asked, lest an image makes us ask them.
 */
import type { LookupAddress } from 'node:dns';
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net';
import { LacunaError, toLacunaError } from '../../errors.ts';
import type { Descriptor } from '../../image/manifest.ts';
import { isForeignLayer } from '../../image/media.ts';
import type { Log } from '../../observe/log.ts';
import type { ForeignLayerPolicy, ReadOptions, RetryOptions } from '../store.ts';
import type { Authorizer } from './auth.ts';
import { BlobReader } from './blob-reader.ts';
import { RegistryHttp } from './http.ts';
import { lookups } from './lookups.ts';
import type { Transport } from './transport.ts';

const OP = 'fetch foreign layer';
/** URLs of one layer that are tried. */
const MAX_URLS = 8;

/** Networks that are not the Internet (IANA special-purpose address registries). */
const LOCAL: ReadonlyArray<readonly [network: string, prefix: number]> = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
  ['::', 127],
  ['64:ff9b::', 96],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
];

const local = new BlockList();
for (const [network, prefix] of LOCAL) local.addSubnet(network, prefix, isIPv6(network) ? 'ipv6' : 'ipv4');

/** Whether an address is one of this machine, its network, or of no host. IPv4 addresses within IPv6 ones count as such. */
export const isLocalAddress = (address: string): boolean => local.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');

const hostname = (host: string): string => host.replace(/^\[|\]$/g, '');

/** `asking`: on whose account a name is looked up. */
async function isLocalHost(host: string, asking: string): Promise<boolean> {
  const name = hostname(host);
  if (isIP(name) !== 0) return isLocalAddress(name);
  const found = await lookups.find(asking, name);
  return found.some(({ address }) => isLocalAddress(address));
}

/** Whose lookups these are: of all images' urls together. */
export const URLS = 'urls of layers';
const lookup = lookups.for(URLS);

/** As `dns.lookup`, without addresses of {@link LOCAL}: what a name stands for may have changed since it was checked. */
const publicLookup: LookupFunction = (name, options, callback) => {
  lookup(name, options, (error, address: string | LookupAddress[], family) => {
    const found = typeof address === 'string' ? [address] : (address ?? []).map((one) => one.address);
    const refused = error === null && found.some(isLocalAddress);
    callback(refused ? Object.assign(new Error('a local address'), { code: 'EACCES' }) : error, address, family);
  });
};

/** Whether a descriptor's bytes may be elsewhere than in its store. */
export const isForeign = ({ urls, mediaType }: Descriptor): boolean =>
  (urls !== undefined && urls.length > 0) || isForeignLayer(mediaType);

export interface ForeignLayersOptions {
  readonly policy: ForeignLayerPolicy;
  /** Host name of the registry that has the image, null where there is none. */
  readonly registry: string | null;
  /** A new transport, which resolves names with this function; null: as it does anyhow. */
  readonly connect: (lookup: LookupFunction | null) => Promise<Transport>;
  readonly retry: Required<RetryOptions>;
  readonly log: Log;
}

export class ForeignLayers {
  readonly #options: ForeignLayersOptions;

  constructor(options: ForeignLayersOptions) {
    this.#options = options;
  }

  /**
   * The bytes of a layer that its store does not have, from the first of its urls that has them; as `ImageStore.open`.
   * UNSUPPORTED, with the host, when none may be asked or none answers.
   */
  async *read(descriptor: Descriptor, options: ReadOptions): AsyncGenerator<Buffer> {
    const urls = (descriptor.urls ?? []).slice(0, MAX_URLS);
    let failure = unavailable(descriptor, 'its descriptor has no urls');
    for (const text of urls) {
      let hasBegun = false;
      try {
        for await (const piece of this.#readFrom(text, descriptor, options)) {
          hasBegun = true;
          yield piece;
        }
        return;
      } catch (error) {
        if (hasBegun || isAboutBytes(error)) throw error;
        failure = unavailable(descriptor, toLacunaError(error).message, error);
      }
    }
    throw failure;
  }

  async *#readFrom(text: string, descriptor: Descriptor, options: ReadOptions): AsyncGenerator<Buffer> {
    const { policy, connect, retry, log } = this.#options;
    if (policy === 'never') throw refused(hostOf(text), 'foreign layers are not fetched by this setting');
    if (!URL.canParse(text)) throw refused('its url', 'it is not a URL');
    const url = new URL(text);
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refused(url.host || url.protocol, 'not HTTP');
    url.username = '';
    url.password = '';
    url.hash = '';
    const isAnywhere = policy === 'always' || (await this.#isRegistryLocal());
    const transport = await connect(isAnywhere ? null : publicLookup);
    try {
      const guarded = isAnywhere ? transport : publicOnly(transport);
      const http = new RegistryHttp({ base: NO_REGISTRY, transport: guarded, authorizer: NOBODY, retry, log });
      const subject = `${descriptor.digest} of ${url.host}`;
      yield* new BlobReader({ http, repository: url, urlOf: () => url, scopes: [], subject }).read(descriptor, options);
    } finally {
      await transport.close();
    }
  }

  /** Whoever uses a registry of this machine or network trusts it with addresses there. */
  async #isRegistryLocal(): Promise<boolean> {
    const { registry } = this.#options;
    if (registry === null) return false;
    try {
      return await isLocalHost(registry.replace(/:[0-9]+$/, ''), registry);
    } catch {
      // Behind a proxy names need not resolve.
      return false;
    }
  }
}

/** No URL has this origin: nothing that is asked is a registry of ours, so nobody's credentials are looked for. */
const NO_REGISTRY = new URL('about:blank');
const NOBODY = {} as Authorizer;

/** Refuses every request to a local address, those that redirects lead to included. */
const publicOnly = (transport: Transport): Transport => ({
  async request(request) {
    const { host, hostname: name } = request.url;
    const isLocal = await isLocalHost(name, URLS).catch(() => false);
    if (isLocal) throw refused(host, 'it is at an address of this machine or network, and the registry is not');
    return await transport.request(request);
  },
  close: () => transport.close(),
});

const hostOf = (text: string): string => (URL.canParse(text) ? new URL(text).host : 'its url');

const refused = (host: string, why: string): LacunaError =>
  new LacunaError('UNSUPPORTED', `${host} is not asked: ${why}`, { op: OP, subject: host });

/** What came is not the layer, or nobody wants it any more: another url does not help. */
const isAboutBytes = (error: unknown): boolean =>
  ['ABORTED', 'DIGEST_MISMATCH', 'SIZE_MISMATCH'].includes(toLacunaError(error).code);

const unavailable = ({ digest }: Descriptor, why: string, cause?: unknown): LacunaError =>
  new LacunaError('UNSUPPORTED', `the foreign layer ${digest} is not in the store, and could not be fetched: ${why}`, {
    op: OP,
    subject: digest,
    hint: 'layers that may not be distributed are fetched from the urls of their descriptor, see --foreign-layers',
    ...(cause === undefined ? {} : { cause }),
  });

/** What the store has of `descriptor`; where it has nothing at all, what the layer's urls have. */
export async function* storedOrForeign(
  stored: AsyncIterable<Buffer>,
  foreign: ForeignLayers,
  descriptor: Descriptor,
  options: ReadOptions,
): AsyncGenerator<Buffer> {
  let hasBegun = false;
  try {
    for await (const piece of stored) {
      hasBegun = true;
      yield piece;
    }
    return;
  } catch (error) {
    if (hasBegun || toLacunaError(error).code !== 'NOT_FOUND') throw error;
  }
  yield* foreign.read(descriptor, options);
}
