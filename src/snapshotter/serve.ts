/** Assembles and serves the snapshotter that `lacuna snapshotter` runs. */
import { realpath } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { storedCredentials } from '../access/credentials.ts';
import { defaultConfig } from '../config/load.ts';
import type { Config } from '../config/table.ts';
import type { DaemonStart } from '../daemon/client.ts';
import { probePidNamespace } from '../doctor/pid-namespace.ts';
import { unixServer } from '../grpc/unix.ts';
import { makeDirectory, makePrivateDirectory } from '../make-directory.ts';
import { lockFor } from '../native/lock.ts';
import { limitedLog } from '../observe/limited-log.ts';
import { errorRow, type Log, type LogFormat, type LogLevel, silentLog } from '../observe/log.ts';
import { preloadTransport } from '../registry/open.ts';
import { ManagedDaemon } from './daemon-handle.ts';
import { Images } from './images.ts';
import { Pulls } from './pulls.ts';
import { Registries } from './registries.ts';
import { serveLacuna, serveSnapshots } from './service.ts';
import { Snapshotter } from './snapshotter.ts';

/** Options of {@link snapshotter}. */
export interface ServeOptions {
  /** Directory of all data of this host's lazy images; also the daemon's root. */
  readonly root: string;
  /** UNIX socket, at most 107 bytes long. */
  readonly address: string;
  /** Configuration; default: the default of every key. */
  readonly config?: Config;
  /** Path of the file that `config` was read from: a daemon that is started reads it too. */
  readonly configFile?: string;
  /** Gets every log line. Default: nothing is logged. */
  readonly log?: Log;
  /** Log level of a daemon that is started; takes precedence over the configuration's. */
  readonly logLevel?: LogLevel;
  /** Format of that daemon's log lines. */
  readonly logFormat?: LogFormat;
}

/** A running snapshotter. Disposing of it is the same as `close`. */
export interface SnapshotterServer extends AsyncDisposable {
  /** Path of the UNIX socket. */
  readonly address: string;
  /** Ends the service; holder, daemon, mounts and containers keep running. */
  close(): Promise<void>;
}

/**
 * Serves containerd's snapshots service until closed. LOCKED when the root has a snapshotter, UNSUPPORTED without the
 * native addon or better-sqlite3. The daemon is started in the background: plain images work without it.
 */
export async function serveSnapshotter(options: ServeOptions): Promise<SnapshotterServer> {
  const log = limitedLog(options.log ?? silentLog);
  const { registry, snapshotter: settings } = options.config ?? defaultConfig();
  await makeDirectory(options.root, 0o700);
  // The kernel's mount table has paths without links.
  const root = await realpath(options.root);
  const folder = join(root, 'snapshotter');
  await makePrivateDirectory(folder);
  await makeDirectory(dirname(options.address), 0o700);
  const undo: (() => Promise<void> | void)[] = [];
  const close = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const lock = await lockFor('snapshotter', join(folder, 'lock'));
    undo.push(() => lock.close());
    const registries = new Registries({
      plainHttp: registry.plain_http,
      ca: registry.ca,
      credentials: storedCredentials(),
      log,
    });
    const daemon = new ManagedDaemon({ root, registries, log, daemon: daemonStart(options) });
    undo.push(() => daemon.close());
    const pulls = new Pulls(settings.containerd);
    if (settings.containerd === '') await warnOfNamespace(log);
    const images = await Images.open({ folder: join(folder, 'images'), daemon, registries, pulls, log });
    const snapshotter = await Snapshotter.open({ folder, images, log });
    undo.push(() => snapshotter.close());
    const server = await unixServer(options.address, [serveSnapshots(snapshotter), serveLacuna(snapshotter, images)]);
    undo.push(() => server.close());
    await preloadTransport();
    log.info({ root, address: options.address }, 'snapshotter ready');
    startDaemon(daemon, snapshotter, log);
  } catch (error) {
    await close();
    throw error;
  }
  return { address: options.address, close, [Symbol.asyncDispose]: close };
}

/** Warns at the start: otherwise the first sign is a failed pull of a lazy image. */
async function warnOfNamespace(log: Log): Promise<void> {
  const { status, why, hint } = await probePidNamespace();
  if (status !== 'ok') log.warn({ hint }, `PID namespace: ${why}`);
}

/** Starts the daemon without waiting for it, then detaches images that were removed while it did not run. */
function startDaemon(daemon: ManagedDaemon, snapshotter: Snapshotter, log: Log): void {
  daemon
    .client()
    .then(() => snapshotter.cleanup())
    .catch((error: unknown) => log.debug({ error: errorRow(error) }, 'the daemon does not run yet'));
}

function daemonStart({ configFile, logLevel, logFormat }: ServeOptions): DaemonStart {
  return {
    ...(configFile === undefined ? {} : { config: resolve(configFile) }),
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(logFormat === undefined ? {} : { logFormat }),
  };
}
