/** Opens the store that a reference names. */
import { access } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { hostCertificates } from '../access/cert-dir.ts';
import type { CredentialSource } from '../access/credential-source.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import {
  type ArchiveReference,
  type DockerReference,
  formatReference,
  type Reference,
  STREAM,
} from '../image/reference.ts';
import { silentLog } from '../observe/log.ts';
import { Authorizer } from './http/auth.ts';
import { RegistryStore } from './http/client.ts';
import { ForeignLayers, URLS } from './http/foreign.ts';
import { RegistryHttp } from './http/http.ts';
import { lookups } from './http/lookups.ts';
import { paced } from './http/pace.ts';
import { DEFAULT_RETRY } from './http/retry.ts';
import { DEFAULT_TIMEOUTS, discard, type Transport, type TransportOptions } from './http/transport.ts';
import { ArchiveStore } from './local/archive.ts';
import { ArchiveWriter } from './local/archive-writer.ts';
import { openDir } from './local/dir.ts';
import type { FileStore } from './local/file-store.ts';
import { openLayout } from './local/layout.ts';
import { withOwnErrors } from './own-errors.ts';
import type { ImageStore, StoreOptions } from './store.ts';

/** Hosts of registry APIs that differ from the registry's name. */
const API_HOSTS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

/** Whether a registry of this name is on this machine; such registries speak plain HTTP by default. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, '');
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));
}

/** Opens the registry's repository, the layout or the archive that `reference` names. No request is made yet. */
export async function openStore(reference: Reference, options: StoreOptions = {}): Promise<ImageStore> {
  try {
    return withOwnErrors(await openUnguarded(reference, options));
  } catch (error) {
    throw toLacunaError(error, { op: 'open', subject: formatReference(reference) });
  }
}

async function openUnguarded(reference: Reference, options: StoreOptions): Promise<ImageStore> {
  switch (reference.transport) {
    case 'docker':
      return await openRegistry(reference, options);
    case 'oci':
      return withForeign(await openLayout(reference, options.create ?? false), options);
    case 'oci-archive':
    case 'docker-archive':
      return await openArchive(reference, options);
    case 'dir':
      return withForeign(await openDir(reference, options.create ?? false), options);
    case 'rafs':
      throw new LacunaError('UNSUPPORTED', 'rafs: names files of one image, not a store of images', {
        op: 'open',
        subject: reference.bootstrap,
        hint: 'use docker:// or oci:',
      });
  }
}

/** Opens an archive to read it, or with `create` to write a new one. Existing archives are never added to. */
async function openArchive(reference: ArchiveReference, options: StoreOptions): Promise<ImageStore> {
  if (options.create === true) return new ArchiveWriter(reference);
  // A missing file is reported now, not by the first read.
  if (reference.path !== STREAM) await access(reference.path).catch(cannotOpen(reference.path));
  return withForeign(new ArchiveStore(reference), options);
}

function withForeign(store: FileStore, options: StoreOptions): FileStore {
  store.foreign = foreignLayers(null, options);
  return store;
}

/** `registry`: the host that the image comes from; null for files. */
const foreignLayers = (registry: string | null, options: StoreOptions): ForeignLayers =>
  new ForeignLayers({
    policy: options.foreignLayers ?? 'public',
    registry,
    // Hosts that an image names get no client certificate, and their certificates are always verified.
    connect: (lookup) =>
      openTransport(options.transport ?? 'undici', {
        tls: options.ca === undefined ? {} : { ca: options.ca },
        timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
        lookup: lookup ?? lookups.for(URLS),
      }),
    retry: { ...DEFAULT_RETRY, ...options.retry },
    log: options.log ?? silentLog,
  });

const cannotOpen = (subject: string) => (cause: unknown) => {
  throw toLacunaError(cause, { op: 'open', subject });
};

async function openRegistry(reference: DockerReference, options: StoreOptions): Promise<RegistryStore> {
  const { http, transport } = await openRegistryHttp(reference.host, options, reference.repository);
  return new RegistryStore({ reference, http, transport, foreign: foreignLayers(reference.host, options) });
}

/** HTTP to the registry `host` with `options`; the caller closes the transport. */
export async function openRegistryHttp(
  host: string,
  options: StoreOptions,
  repository?: string,
): Promise<{ http: RegistryHttp; transport: Transport }> {
  const { ca, cert, key, credentials: source, log = silentLog } = options;
  const stored = options.plainHttp === true ? {} : await hostCertificates(host);
  const authorities = [stored.ca, ca].filter((text) => text != null).join('\n');
  const transport = await openTransport(options.transport ?? 'undici', {
    tls: {
      ...stored,
      ...(authorities === '' ? {} : { ca: authorities }),
      ...(cert === undefined && key === undefined ? {} : { cert: cert ?? null, key: key ?? null }),
      verify: options.tlsVerify !== false,
    },
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    lookup: lookups.for(host),
  });
  const address = Object.hasOwn(API_HOSTS, host) ? API_HOSTS[host]! : host;
  const base = new URL(`${await schemeOf(address, options, transport)}://${address}/v2/`);
  const credentials: CredentialSource | null = source === undefined ? null : (name) => source(name, repository);
  const authorizer = new Authorizer({ host, base, credentials, transport });
  return {
    http: new RegistryHttp({ base, transport, authorizer, retry: { ...DEFAULT_RETRY, ...options.retry }, log }),
    transport,
  };
}

async function schemeOf(address: string, options: StoreOptions, transport: Transport): Promise<'http' | 'https'> {
  const { plainHttp, tlsVerify } = options;
  if (plainHttp !== undefined) return plainHttp ? 'http' : 'https';
  if (tlsVerify === undefined) return isLoopback(address) ? 'http' : 'https';
  if (tlsVerify) return 'https';
  // Docker and skopeo do the same with a registry that need not be verified.
  try {
    const url = new URL(`https://${address}/v2/`);
    await discard(await transport.request({ method: 'GET', url, headers: {}, body: null, signal: null }));
    return 'https';
  } catch {
    return 'http';
  }
}

/** Loads the default HTTP client before the first request, for long-running processes: loading takes 0.1 s. */
export async function preloadTransport(): Promise<void> {
  await import('./http/transport-undici.ts');
}

async function openTransport(name: 'undici' | 'node-fetch', options: TransportOptions): Promise<Transport> {
  return paced(await loadTransport(name, options), options.timeouts.body);
}

async function loadTransport(name: 'undici' | 'node-fetch', options: TransportOptions): Promise<Transport> {
  if (name === 'undici') {
    // undici is CommonJS, which esbuild cannot bundle into an ES module.
    const loaded = await import('./http/transport-undici.ts').catch(() => null);
    if (loaded !== null) return loaded.undiciTransport(options);
  }
  return (await import('./http/transport-fetch.ts')).fetchTransport(options);
}
