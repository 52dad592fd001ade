/** The control API on this side of the socket. */
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fetcher } from '../blob/fetcher.ts';
import { LacunaError } from '../errors.ts';
import { serverStream, unary } from '../grpc/unix.ts';
import type { BlobFs } from '../native/addon.ts';
import { type AttachRequest, daemonService, type SetCredentialsRequest, type Status } from './api.ts';
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

/** Longest time that BlockForTest blocks. */
const MAX_BLOCK_SECONDS = 60;

export function serveDaemon({ images, blobFs, fetcher, sources, stop, ending }: ServiceOptions) {
  const startedAt = Date.now();
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  const status = (): Status => ({
    pid: process.pid,
    version,
    startedAt,
    ...images.status(),
    counters: { ...blobFs.counters(), ...fetcher.counters() },
  });
  const handlers = {
    Attach: unary(async (request: AttachRequest, { signal }) => ({ devices: await images.attach(request, signal) })),
    Detach: unary(async ({ id }: { id: string }) => {
      await images.detach(id);
      return {};
    }),
    SetCredentials: unary((request: SetCredentialsRequest) => {
      sources.setCredentials(request);
      return {};
    }),
    Status: unary(status),
    Watch: serverStream(async function* (_request: object, { signal }) {
      yield { pid: process.pid };
      const over = AbortSignal.any([signal, ending]);
      await new Promise<void>((resolve) => over.addEventListener('abort', () => resolve(), { once: true }));
    }),
    Stop: unary(() => {
      setImmediate(stop); // the answer goes first
      return {};
    }),
    BlockForTest: unary(({ seconds }: { seconds: number }) => {
      if (process.env.LACUNA_TEST_HOOKS !== '1') {
        throw new LacunaError('UNSUPPORTED', 'test hooks are off', { op: 'block for test' });
      }
      void sleep(50).then(() => block(Math.min(seconds, MAX_BLOCK_SECONDS)));
      return {};
    }),
  };
  return { definition: daemonService(), handlers };
}

/** Nothing of JavaScript runs meanwhile. */
function block(seconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);
}
