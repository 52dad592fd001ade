/** The data-plane process that `lacuna daemon` runs. One per root; it may be killed at any moment. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/table.ts';
import { toLacunaError } from '../errors.ts';
import { Fetcher, type FetchOptions } from '../fetch/fetcher.ts';
import { addon } from '../native/addon.ts';
import { ensureHolder } from '../native/holder.ts';
import { lockFor } from '../native/lock.ts';
import { limitedLog } from '../observe/limited-log.ts';
import { errorRow, type Log } from '../observe/log.ts';
import { Images } from './images.ts';
import { makeRoot, rootPaths } from './root.ts';
import { Sources } from './sources.ts';
import { WorkerTables } from './worker-tables.ts';

/** Milliseconds between attempts to make the socket. */
const LISTEN_PAUSE = 5_000;

/** Options of {@link runDaemon}. */
export interface RunOptions {
  /** Directory of the daemon's caches, sockets and records. */
  readonly root: string;
  /** The whole configuration; see `defaultConfig`. */
  readonly config: Config;
  /** Gets every log line. */
  readonly log: Log;
  /** Ends the daemon: mounts, devices and waiting reads stay for the next one. */
  readonly signal: AbortSignal;
}

/**
 * Runs until the signal or a Stop. The order matters. Readers of a dead predecessor wait in the kernel: all devices are
 * added again before a request for an unknown one fails, and the socket is made last. Modules that take long to load are
 * loaded once readers are served from the cache again, the HTTP client first, for those that miss.
 */
export async function runDaemon({ root, config, signal, ...options }: RunOptions): Promise<void> {
  const log = limitedLog(options.log);
  const paths = rootPaths(root);
  await makeRoot(paths);
  const lock = await lockFor('daemon', paths.lock);
  try {
    await ensureHolder(paths.holderSocket);
    await using sources = new Sources(config.registry, log);
    let fetcher: Fetcher | null = null;
    const blobFs = await addon().blobFs(
      {
        mountpoint: paths.fuse,
        holderSocket: paths.holderSocket,
        threads: config.daemon.threads,
        workers: config.daemon.workers,
      },
      (miss) => fetcher?.miss(miss),
    );
    fetcher = new Fetcher(blobFs, { ...fetchOptions(config.fetch), standing: sources.standing, log });
    try {
      using tables = new WorkerTables();
      const { silence } = config.fetch;
      const images = new Images({ paths, blobFs, fetcher, sources, log, silence, readTables: tables.read });
      await images.restore();
      blobFs.ready();
      tables.prepare(); // for the first Attach
      await sources.preload();
      const [{ serveDaemon }, { unixServer }] = await Promise.all([import('./service.ts'), import('../grpc/unix.ts')]);
      const stopped = new AbortController();
      const ending = AbortSignal.any([signal, stopped.signal]);
      const service = serveDaemon({ images, blobFs, fetcher, sources, stop: () => stopped.abort(), ending });
      await using _server = await listen(() => unixServer(paths.socket, [service]), log, ending);
      log.info({ root, takenOver: blobFs.counters().takenOver }, 'daemon ready');
      await untilAborted(ending);
    } finally {
      fetcher.close();
      await blobFs.close();
    }
  } finally {
    lock.close();
  }
}

/**
 * Retries until the server listens; null when `signal` aborts before. On a full or read-only file system the socket cannot
 * be made, and readers are served without it.
 */
async function listen<Server>(make: () => Promise<Server>, log: Log, signal: AbortSignal): Promise<Server | null> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await make();
    } catch (thrown) {
      const error = toLacunaError(thrown);
      if (error.code !== 'SYSTEM') throw error;
      if (attempt === 0)
        log.error(
          { error: errorRow(error) },
          'could not make the control socket, trying again: images are served, but cannot be attached or detached',
        );
    }
    const isEnding = await sleep(LISTEN_PAUSE, false, { signal }).catch(() => true);
    if (isEnding) return null;
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

const fetchOptions = (fetch: Config['fetch']): FetchOptions => ({
  window: fetch.window,
  inFlight: fetch.in_flight,
  connections: fetch.connections,
  originConnections: fetch.origin_connections,
  totalConnections: fetch.total_connections,
  memory: fetch.memory,
  silence: fetch.silence,
  deadline: fetch.deadline,
});
