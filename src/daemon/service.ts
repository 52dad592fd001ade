/** The control API on this side of the socket. */
import { createRequire } from 'node:module';
import type { Fetcher } from '../fetch/fetcher.ts';
import type { Daemon } from '../grpc/messages/daemon.gen.ts';
import type { Handlers } from '../grpc/proto.ts';
import { serverStream, unary } from '../grpc/unix.ts';
import type { BlobFs } from '../native/addon.ts';
import { type Counters, daemonService, type Status } from './api.ts';
import type { Images } from './images.ts';
import type { Sources } from './sources.ts';

export interface ServiceOptions {
  readonly images: Images;
  readonly blobFs: BlobFs;
  readonly fetcher: Fetcher;
  readonly sources: Sources;
  readonly stop: () => void;
  /** Aborted when the daemon ends: who watches it is told at once. */
  readonly ending: AbortSignal;
}

export function serveDaemon({ images, blobFs, fetcher, sources, stop, ending }: ServiceOptions) {
  const startedAt = Date.now();
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  const status = (): Status => ({
    pid: process.pid,
    version,
    startedAt,
    ...images.status(),
    counters: exactly({ ...blobFs.counters(), ...fetcher.counters() }),
  });
  const handlers: Handlers<Daemon> = {
    Attach: unary(async (request, { signal }) => ({ devices: await images.attach(request, signal) })),
    Detach: unary(async ({ id }) => {
      await images.detach(id);
      return {};
    }),
    SetCredentials: unary((request) => {
      sources.setCredentials(request);
      return {};
    }),
    Status: unary(status),
    Watch: serverStream(async function* (_request, { signal }) {
      yield { pid: process.pid };
      const over = AbortSignal.any([signal, ending]);
      await new Promise<void>((resolve) => over.addEventListener('abort', () => resolve(), { once: true }));
    }),
    Stop: unary(() => {
      setImmediate(stop); // the answer goes first
      return {};
    }),
  };
  return { definition: daemonService(), handlers };
}

/** Compiles only for counters that are all in the message, and all of the message. */
const exactly = <T extends Counters & { [Name in Exclude<keyof T, keyof Counters>]: never }>(counters: T): Counters =>
  counters;
