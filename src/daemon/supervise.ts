/** Keeps a root's daemon alive. Processes with mounts on it (snapshotter, `lacuna mount`) supervise it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorRow, silentLog } from '../observe/log.ts';
import { connectDaemon, type DaemonClient, type EnsureOptions, ensureDaemon } from './client.ts';

/** Milliseconds after which a daemon counts as stable: its death does not increase the delay. */
const STEADY = 10_000;
const FIRST_DELAY = 100;
const MAX_DELAY = 10_000;

export interface Supervisor extends AsyncDisposable {
  /** Stays valid over restarts of the daemon; calls wait for it to be back. */
  readonly client: DaemonClient;
  /** Number of deaths of the daemon so far. */
  readonly restarts: number;
  /** Ends the supervision; the daemon keeps running. */
  close(): Promise<void>;
}

/**
 * Resolves when the daemon of `root` answers; from then on restarts it whenever it dies: the first time at once, with
 * growing delays when deaths follow each other. The daemon may be a child of another process, and several processes may
 * supervise one root: its lock admits one daemon. A failure of the first start is thrown; later ones are logged and
 * retried.
 */
export async function superviseDaemon(root: string, options: EnsureOptions = {}): Promise<Supervisor> {
  const log = options.log ?? silentLog;
  const abort = new AbortController();
  const client = await ensureDaemon(root, options);
  let restarts = 0;

  const watch = async (): Promise<void> => {
    let deaths = 0;
    while (!abort.signal.aborted) {
      const started = performance.now();
      await untilGone(root, abort.signal);
      if (abort.signal.aborted) return;
      restarts++;
      deaths = performance.now() - started > STEADY ? 0 : deaths + 1;
      log.warn({ root, restarts }, 'the daemon is gone, restarting it');
      if (deaths > 1) await sleep(Math.min(FIRST_DELAY * 2 ** (deaths - 2), MAX_DELAY), undefined, abort);
      try {
        (await ensureDaemon(root, { ...options, signal: abort.signal })).close();
      } catch (error) {
        if (!abort.signal.aborted)
          log.error(
            { root, error: errorRow(error) },
            'could not restart the daemon, trying again: uncached reads wait',
          );
      }
    }
  };
  const watching = watch().catch((error: unknown) => {
    if (!abort.signal.aborted)
      log.error({ root, error: errorRow(error) }, 'the supervision of the daemon ended: it is not restarted any more');
  });

  const close = async (): Promise<void> => {
    abort.abort();
    await watching;
    client.close();
  };
  return {
    client,
    get restarts() {
      return restarts;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Resolves when the daemon's Watch stream has ended, as it does however the daemon dies. */
async function untilGone(root: string, signal: AbortSignal): Promise<void> {
  using client = connectDaemon(root);
  try {
    for await (const _event of client.watch({ signal })) {
      // Only the end of the stream matters.
    }
  } catch {
    // An error ends the stream as well: ensureDaemon checks whether a daemon runs.
  }
}
