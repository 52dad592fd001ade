/**
 * The client of the control API: connects to a root's daemon, and starts one where none runs. `supervise.ts` keeps a
 * daemon alive.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, constants, open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EXIT, LacunaError, toLacunaError } from '../errors.ts';
import type { StatusResponse } from '../grpc/messages/daemon.gen.ts';
import { type CallSettings, unixChannel } from '../grpc/unix.ts';
import { type Log, type LogFormat, type LogLevel, silentLog } from '../observe/log.ts';
import {
  type AttachRequest,
  type AttachResponse,
  daemonService,
  type SetCredentialsRequest,
  type Status,
} from './api.ts';
import { MAX_ATTACH_SECONDS } from './limits.ts';
import { makeRoot, type RootPaths, rootPaths } from './root.ts';

type Settings = Pick<CallSettings, 'signal' | 'timeout' | 'waitForReady'>;

/** A client of one root's daemon. It connects when first used, and again after the daemon was restarted. */
export interface DaemonClient extends Disposable {
  readonly root: string;
  attach(request: AttachRequest, settings?: Settings): Promise<AttachResponse>;
  detach(id: string, settings?: Settings): Promise<void>;
  setCredentials(request: SetCredentialsRequest, settings?: Settings): Promise<void>;
  status(settings?: Settings): Promise<Status>;
  /** Yields one event with the daemon's pid, then stays open until the daemon dies or is stopped. */
  watch(settings?: Settings): AsyncIterable<{ pid: number }>;
  stop(settings?: Settings): Promise<void>;
  close(): void;
}

/** Default timeout of a call in milliseconds, a restart of the daemon included. */
const DEFAULT_CALL_TIMEOUT = 60_000;
/** Timeout of Attach in milliseconds: the daemon gives up first, and says why. */
const ATTACH_TIMEOUT = DEFAULT_CALL_TIMEOUT + MAX_ATTACH_SECONDS * 1000;

/** A client of the daemon of `root`, running or not. Calls wait for a daemon that is being restarted. */
export function connectDaemon(root: string): DaemonClient {
  const channel = unixChannel(rootPaths(root).socket, daemonService());
  const defaults = { timeout: DEFAULT_CALL_TIMEOUT, waitForReady: true };
  const call: typeof channel.call = (method, request, settings = {}) =>
    channel.call(method, request, { ...defaults, ...settings });
  return {
    root,
    attach: async (request, settings) => {
      await assertWritable(root, 'attach');
      return await call('Attach', request, { timeout: ATTACH_TIMEOUT, ...settings });
    },
    detach: async (id, settings) => void (await call('Detach', { id }, settings)),
    setCredentials: async (request, settings) => void (await call('SetCredentials', request, settings)),
    status: async (settings) => withCounters(await call('Status', {}, settings), root),
    watch: (settings = {}) => channel.stream('Watch', {}, settings),
    stop: async (settings) => void (await call('Stop', {}, settings)),
    close: () => channel.close(),
    [Symbol.dispose]: () => channel.close(),
  };
}

function withCounters({ counters, ...status }: StatusResponse, subject: string): Status {
  if (counters !== null) return { ...status, counters };
  throw new LacunaError('PROTOCOL', 'the daemon answered without its counters', { op: 'status', subject });
}

/** Settings of a daemon that is started; one that runs keeps its own. */
export interface DaemonStart {
  /** Configuration file. */
  readonly config?: string;
  /** Takes precedence over the configuration's level. */
  readonly logLevel?: LogLevel;
  readonly logFormat?: LogFormat;
}

export interface EnsureOptions extends DaemonStart {
  readonly log?: Log;
  readonly signal?: AbortSignal;
  /** Milliseconds that a daemon may take to answer after its start; default {@link DEFAULT_START_TIMEOUT}. */
  readonly startTimeout?: number;
}

const DEFAULT_START_TIMEOUT = 20_000;

/** Milliseconds between two checks whether a started daemon answers. */
const POLL_MILLISECONDS = 20;

/**
 * A client of a daemon that answers. Where none does, starts one in a session of its own, which outlives the caller.
 * UNAVAILABLE with the end of its log when it does not answer in time.
 */
export async function ensureDaemon(root: string, options: EnsureOptions = {}): Promise<DaemonClient> {
  const log = options.log ?? silentLog;
  const client = connectDaemon(root);
  try {
    if (await answers(client)) return client;
    const paths = rootPaths(root);
    await makeRoot(paths);
    const started = await startDaemon(paths, options);
    log.debug({ root, pid: started.child.pid }, 'daemon started');
    await assertWritable(root, 'start daemon');
    await waitForDaemon(client, paths, started, options);
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

/**
 * SYSTEM where the file system is read-only. The daemon of such a root serves images attached before, but it cannot make its
 * socket, so a caller would wait in vain.
 */
async function assertWritable(root: string, op: string): Promise<void> {
  await access(root, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EROFS') throw toLacunaError(error, { op, subject: root });
  });
}

async function answers(client: DaemonClient): Promise<boolean> {
  try {
    await client.status({ waitForReady: false });
    return true;
  } catch (error) {
    if (toLacunaError(error).code === 'UNAVAILABLE') return false;
    throw error;
  }
}

interface StartedDaemon {
  child: ChildProcess;
  /** Offset in the log file at which its own lines begin. */
  logStart: number;
}

/** The path leads to the built file from `src/daemon` and from `dist/daemon`: Node 20 runs only JavaScript. */
const DAEMON_MAIN = fileURLToPath(new URL('../../dist/daemon/main.js', import.meta.url));

async function startDaemon(paths: RootPaths, options: EnsureOptions): Promise<StartedDaemon> {
  const words = [DAEMON_MAIN, '--root', paths.root, '--log-file', paths.log];
  if (options.config !== undefined) words.push('--config', options.config);
  if (options.logLevel !== undefined) words.push('--log-level', options.logLevel);
  if (options.logFormat !== undefined) words.push('--log-format', options.logFormat);
  // The daemon's standard error, for a daemon that cannot write its log. A full disk must not keep it from starting: readers
  // wait for it.
  await using errors = await open(paths.log, 'a', 0o600).catch(() => null);
  const output = errors?.fd ?? 'ignore';
  const child = spawn(process.execPath, words, { detached: true, cwd: '/', stdio: ['ignore', output, output] });
  child.on('error', () => {
    // `exitCode` stays null and the socket never answers: waitForDaemon reports it.
  });
  child.unref();
  return { child, logStart: (await errors?.stat())?.size ?? 0 };
}

async function waitForDaemon(
  client: DaemonClient,
  paths: RootPaths,
  started: StartedDaemon,
  options: EnsureOptions,
): Promise<void> {
  const deadline = performance.now() + (options.startTimeout ?? DEFAULT_START_TIMEOUT);
  for (;;) {
    if (await answers(client)) return;
    const { exitCode, signalCode } = started.child;
    // Another daemon held the lock and is starting or ending, or ours was killed: a start is tried again.
    const lost = exitCode === EXIT.conflict || signalCode !== null;
    if ((exitCode !== null && !lost) || performance.now() > deadline) {
      throw new LacunaError('UNAVAILABLE', 'the daemon was started and does not answer', {
        op: 'start daemon',
        subject: paths.root,
        hint: (await logEnd(paths.log, started.logStart)) || `see ${paths.log}`,
        retryable: false,
      });
    }
    const pause = lost ? 5 * POLL_MILLISECONDS : POLL_MILLISECONDS;
    await sleep(pause, undefined, options.signal === undefined ? {} : { signal: options.signal });
    if (lost && !(await answers(client))) Object.assign(started, await startDaemon(paths, options));
  }
}

/** The last lines of the daemon's log, for the error message. */
async function logEnd(path: string, start: number): Promise<string> {
  try {
    const text = (await readFile(path)).subarray(start).toString('utf8').trim();
    return text.split('\n').slice(-3).join('\n');
  } catch {
    // The hint is optional: without a log there is none.
    return '';
  }
}
