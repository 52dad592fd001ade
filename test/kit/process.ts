/** Programs that tests and benchmarks start: they say when they are ready, and they end when the test ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** The environment of programs that are started: Debian keeps daemons in sbin, which is not on everyone's PATH. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` });

export interface Running {
  readonly child: ChildProcess;
  /** What it wrote so far, both streams. */
  output(): string;
  /** SIGTERM, after 10 s SIGKILL; resolves when it has ended. Idempotent. */
  stop(): Promise<void>;
}

/** Starts a program, with `env` added to its environment; its output is kept for error messages. */
export function start(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...environment(), ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    // The end is what explains a failure.
    stream.on('data', (text: string) => {
      output = (output + text).slice(-65536);
    });
  }
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      output += String(error);
      resolve();
    });
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    child.kill('SIGTERM');
    const patience = new AbortController();
    await Promise.race([ended, sleep(10_000, undefined, { signal: patience.signal }).catch(() => {})]);
    patience.abort();
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
  };
  return { child, output: () => output, stop };
}

/** Waits until `ready` says so; throws with the program's output when it ends before or takes longer than `timeout` ms. */
export async function waitUntil(
  running: Running,
  what: string,
  ready: () => boolean | Promise<boolean>,
  timeout = 30_000,
): Promise<void> {
  const deadline = Date.now() + timeout;
  while (!(await ready())) {
    const { exitCode, signalCode } = running.child;
    const ended = exitCode !== null || signalCode !== null || running.child.pid === undefined;
    if (ended || Date.now() > deadline) {
      await running.stop();
      throw new Error(`${what} ${ended ? 'ended' : 'was not ready in time'}:\n${running.output()}`);
    }
    await sleep(20);
  }
}

export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Added to the environment. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
  /** Milliseconds after which it gets SIGTERM. */
  readonly timeout?: number | undefined;
  /** Ends it with SIGTERM and rejects with an AbortError, once it has ended. */
  readonly signal?: AbortSignal | undefined;
  /** Called whenever it has written to standard output. */
  readonly onOutput?: (() => void) | undefined;
}

/** Runs a program to its end; throws with all its output when it fails. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { signal, onOutput, env, ...rest } = options;
  signal?.throwIfAborted();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...environment(), ...env }, ...rest });
  const abort = (): void => void child.kill('SIGTERM');
  signal?.addEventListener('abort', abort, { once: true });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (data: Buffer) => {
    out.push(data);
    onOutput?.();
  });
  child.stderr.on('data', (data: Buffer) => err.push(data));
  const [code, killedBy] = (await once(child, 'close')) as [number | null, string | null];
  signal?.removeEventListener('abort', abort);
  signal?.throwIfAborted();
  const finished = { stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
  if (code === 0) return finished;
  throw new Error(
    `${command} ${args.join(' ')} ended with ${code ?? killedBy}:\n${finished.stderr}${finished.stdout}`.trimEnd(),
  );
}
