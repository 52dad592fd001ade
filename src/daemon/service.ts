/** The daemon's side of the control API. */
import { createRequire } from 'node:module';
import type { FetchCounters, Fetcher } from '../fetch/fetcher.ts';
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
  /** Aborted when the daemon ends: its watchers learn of it at once. */
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
    counters: exactly({ ...blobFs.counters(), ...fetchCounters(fetcher.counters()) }),
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
      setImmediate(stop); // after the response is sent
      return {};
    }),
  };
  return { definition: daemonService(), handlers };
}

/** The fetcher's counters under the names of the message. */
const fetchCounters = ({ readaheadChunks, readaheadBytes, coalesced, ...others }: FetchCounters) => ({
  ...others,
  neighbourChunks: readaheadChunks,
  neighbourBytes: readaheadBytes,
  joined: coalesced,
});

/** Compiles only when the counters are exactly those of the message. */
const exactly = <T extends Counters & { [Name in Exclude<keyof T, keyof Counters>]: never }>(counters: T): Counters =>
  counters;
