/** The snapshotter's daemon: started and kept alive. Plain images work without it. */
import type { DaemonClient, DaemonStart } from '../daemon/client.ts';
import { type Supervisor, superviseDaemon } from '../daemon/supervise.ts';
import { errorRow, type Log } from '../observe/log.ts';
import type { Registries } from './registries.ts';

export interface ManagedDaemonOptions {
  readonly root: string;
  readonly registries: Registries;
  readonly log: Log;
  readonly daemon: DaemonStart;
}

export class ManagedDaemon implements AsyncDisposable {
  readonly #options: ManagedDaemonOptions;
  readonly #abort = new AbortController();
  #starting: Promise<Supervisor> | null = null;
  #supervisor: Supervisor | null = null;

  constructor(options: ManagedDaemonOptions) {
    this.#options = options;
  }

  /** The daemon's client. Starts the daemon when it does not run, also after a start that failed. */
  async client(): Promise<DaemonClient> {
    if (this.#supervisor !== null) return this.#supervisor.client;
    this.#starting ??= this.#start();
    return (await this.#starting).client;
  }

  /** The daemon's client; null while the daemon does not run. */
  running(): DaemonClient | null {
    return this.#supervisor?.client ?? null;
  }

  /** Passes the credentials that `lacuna pull` set for `host` to the daemon, which loses them when it is restarted. */
  async shareCredentials(client: DaemonClient, host: string): Promise<void> {
    const credentials = this.#options.registries.credentials(host);
    if (credentials !== null) await client.setCredentials({ host, ...credentials });
  }

  /** Ends the supervision; the daemon keeps running. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#starting?.catch(() => null);
    await this.#supervisor?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<Supervisor> {
    const { root, log, daemon } = this.#options;
    const { signal } = this.#abort;
    try {
      this.#supervisor = await superviseDaemon(root, { log, signal, ...daemon });
      return this.#supervisor;
    } catch (error) {
      if (!signal.aborted)
        log.error({ error: errorRow(error) }, 'could not start the daemon: lazy images cannot be mounted');
      throw error;
    } finally {
      this.#starting = null;
    }
  }
}
