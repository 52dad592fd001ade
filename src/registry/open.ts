/** From a reference to the store it names. */
import { access } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { LacunaError, toLacunaError } from '../errors.ts';
import {
  type ArchiveReference,
  type DockerReference,
  formatReference,
  type Reference,
  STREAM,
} from '../image/reference.ts';
import { silentLog } from '../observe/log.ts';
import { ArchiveStore } from './archive.ts';
import { ArchiveWriter } from './archive-writer.ts';
import { Authorizer } from './auth.ts';
import { RegistryStore } from './client.ts';
import { openDir } from './dir.ts';
import { RegistryHttp } from './http.ts';
import { openLayout } from './layout.ts';
import { withOwnErrors } from './own-errors.ts';
import { DEFAULT_RETRY } from './retry.ts';
import type { ImageStore, StoreOptions } from './store.ts';
import { DEFAULT_TIMEOUTS, type Transport, type TransportOptions } from './transport.ts';

/** Where the API of a registry is when not at its name. */
const API_HOSTS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

/** Whether a registry of this name is on this machine, where plain HTTP is the custom. */
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
      return await openLayout(reference, options.create ?? false);
    case 'oci-archive':
    case 'docker-archive':
      return await openArchive(reference, options.create ?? false);
    case 'dir':
      return await openDir(reference, options.create ?? false);
    case 'rafs':
      throw new LacunaError('UNSUPPORTED', 'rafs: names bare files, not a store of images', {
        op: 'open',
        subject: reference.bootstrap,
        hint: 'use docker:// or oci:',
      });
  }
}

/** An archive is read, or with `create` made anew: nothing is added to one. */
async function openArchive(reference: ArchiveReference, create: boolean): Promise<ImageStore> {
  if (create) return new ArchiveWriter(reference);
  // A missing file is missing now, not with the first question.
  if (reference.path !== STREAM) await access(reference.path).catch(cannotOpen(reference.path));
  return new ArchiveStore(reference);
}

const cannotOpen = (subject: string) => (cause: unknown) => {
  throw toLacunaError(cause, { op: 'open', subject });
};

async function openRegistry(reference: DockerReference, options: StoreOptions): Promise<RegistryStore> {
  const { host } = reference;
  const scheme = (options.plainHttp ?? isLoopback(host)) ? 'http' : 'https';
  const base = new URL(`${scheme}://${Object.hasOwn(API_HOSTS, host) ? API_HOSTS[host] : host}/v2/`);
  const transport = await openTransport(options.transport ?? 'undici', {
    ca: options.ca ?? null,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
  });
  const authorizer = new Authorizer({ host, base, credentials: options.credentials ?? null, transport });
  const retry = { ...DEFAULT_RETRY, ...options.retry };
  const http = new RegistryHttp({ base, transport, authorizer, retry, log: options.log ?? silentLog });
  return new RegistryStore({ reference, http, transport });
}

/** Loads the default HTTP client ahead of the first request, for processes that wait for work: it takes 0.1 s. */
export async function preloadTransport(): Promise<void> {
  await import('./transport-undici.ts');
}

async function openTransport(name: 'undici' | 'node-fetch', options: TransportOptions): Promise<Transport> {
  if (name === 'undici') return (await import('./transport-undici.ts')).undiciTransport(options);
  return (await import('./transport-fetch.ts')).fetchTransport(options);
}
