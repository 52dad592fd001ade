/** The daemon as the snapshotter sees it: started and kept alive, and not in the way of plain images when it is not there. */
import type { DaemonClient, DaemonStart } from '../daemon/client.ts';
import { type Supervisor, superviseDaemon } from '../daemon/supervise.ts';
import { toLacunaError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import type { Registries } from './registries.ts';

export interface PlaneOptions {
  readonly root: string;
  readonly registries: Registries;
  readonly log: Log;
  readonly daemon: DaemonStart;
}

export class ManagedDaemon implements AsyncDisposable {
  readonly #options: PlaneOptions;
  readonly #abort = new AbortController();
  #starting: Promise<Supervisor> | null = null;
  #supervisor: Supervisor | null = null;

  constructor(options: PlaneOptions) {
    this.#options = options;
  }

  /** The daemon's client; starts the daemon when it does not run, again when that failed the last time. */
  async client(): Promise<DaemonClient> {
    if (this.#supervisor !== null) return this.#supervisor.client;
    this.#starting ??= this.#start();
    return (await this.#starting).client;
  }

  /** Null while there is none. */
  running(): DaemonClient | null {
    return this.#supervisor?.client ?? null;
  }

  /** Tells the daemon the credentials that `lacuna pull` brought for `host`; it forgets them when it is restarted. */
  async shareCredentials(client: DaemonClient, host: string): Promise<void> {
    const credentials = this.#options.registries.credentials(host);
    if (credentials !== null) await client.setCredentials({ host, ...credentials });
  }

  /** The daemon itself lives on. */
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
        log.error({ error: toLacunaError(error).toJSON() }, 'the daemon did not start: lazy images cannot be mounted');
      throw error;
    } finally {
      this.#starting = null;
    }
  }
}
