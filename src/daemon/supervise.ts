/** Keeps a root's daemon alive: whoever has mounts on it (snapshotter, `lacuna mount`) supervises it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toLacunaError } from '../errors.ts';
import { silentLog } from '../observe/log.ts';
import { connectDaemon, type DaemonClient, type EnsureOptions, ensureDaemon } from './client.ts';

/** A daemon that lived so long was well: its death is not one of a row. Milliseconds. */
const STEADY = 10_000;
const FIRST_DELAY = 100;
const MAX_DELAY = 10_000;

export interface Supervisor extends AsyncDisposable {
  /** Stays valid over restarts of the daemon; calls wait for it to be back. */
  readonly client: DaemonClient;
  /** How often the daemon was found dead. */
  readonly restarts: number;
  /** Ends the watching; the daemon lives on. */
  close(): Promise<void>;
}

/**
 * Resolves when the daemon of `root` answers; from then on starts another one whenever it dies: the first time at
 * once, with growing delays when one death follows the other. It may be somebody else's child, and several may
 * supervise one root: the root's lock lets one daemon through. The first start's failure is thrown, later ones are
 * logged and tried again.
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
      log.warn({ root, restarts }, 'the daemon is gone, starting another one');
      if (deaths > 1) await sleep(Math.min(FIRST_DELAY * 2 ** (deaths - 2), MAX_DELAY), undefined, abort);
      try {
        (await ensureDaemon(root, { ...options, signal: abort.signal })).close();
      } catch (error) {
        if (!abort.signal.aborted) log.error({ root, error: toLacunaError(error).toJSON() }, 'no daemon');
      }
    }
  };
  const watching = watch().catch((error: unknown) => {
    if (!abort.signal.aborted) log.error({ root, error: toLacunaError(error).toJSON() }, 'supervision ended');
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

/** Resolves when the stream that a daemon keeps open for its watchers has ended: the kernel closes it at any death. */
async function untilGone(root: string, signal: AbortSignal): Promise<void> {
  using client = connectDaemon(root);
  try {
    for await (const _event of client.watch({ signal })) {
      // Only its end matters.
    }
  } catch {
    // So does any error: ensureDaemon finds out what is there.
  }
}
