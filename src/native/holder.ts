/**
 * The holder: a tiny process, one per root, that keeps the FUSE descriptor while daemons die and come back. Its protocol
 * is described in `native/holder/src/main.rs`; the daemon's side of it is native.
 */
import { execFile } from 'node:child_process';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { LacunaError, toLacunaError } from '../errors.ts';
import { BUILD_HINT } from './build-hint.ts';

/** Milliseconds that a holder may take to start or to answer. It needs few, but serves one client at a time. */
const PATIENCE = 10_000;

/** The program, made by `npm run build:native`. */
export const HOLDER_EXECUTABLE = fileURLToPath(new URL('../../dist/native/lacuna-holder', import.meta.url));

/**
 * Starts the holder of `socket` unless it runs already; resolves with its process id once it answers. It is not a
 * child of this process and outlives it.
 */
export async function ensureHolder(socket: string): Promise<number> {
  const output = await new Promise<string>((resolve, reject) => {
    execFile(HOLDER_EXECUTABLE, [socket], { timeout: PATIENCE }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      reject(
        new LacunaError('SYSTEM', stderr.trim() || `${HOLDER_EXECUTABLE} failed: ${error.message}`, {
          op: 'start holder',
          subject: socket,
          hint: BUILD_HINT,
          cause: error,
        }),
      );
    });
  });
  return Number(output.trim());
}

/** Names of the descriptors that the holder keeps; null when none runs. */
export async function listHolder(socket: string): Promise<string[] | null> {
  const answer = await ask(socket, 'LIST');
  return answer === null ? null : answer.split(' ').slice(1).filter(Boolean);
}

/**
 * Ends the holder. The FUSE session ends with it, unless a daemon still serves it: unmount images first. False when no
 * holder runs.
 */
export async function quitHolder(socket: string): Promise<boolean> {
  return (await ask(socket, 'QUIT')) !== null;
}

/** Sends one request and returns the one line of its answer; null when no holder listens. */
async function ask(socket: string, request: string): Promise<string | null> {
  const options = { op: `${request} to holder`, subject: socket };
  const answer = await new Promise<string | null>((resolve, reject) => {
    const connection = connect(socket);
    let text = '';
    connection.setEncoding('latin1');
    connection.setTimeout(PATIENCE, () =>
      connection.destroy(new LacunaError('TIMEOUT', `no answer within ${PATIENCE / 1000} s`, options)),
    );
    connection.on('connect', () => connection.write(`${request}\n`));
    connection.on('data', (data) => {
      text += data;
    });
    connection.on('end', () => resolve(text.trimEnd()));
    connection.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(null);
      else reject(toLacunaError(error, options));
    });
  });
  if (answer !== null && !/^OK( |$)/.test(answer)) {
    throw new LacunaError('PROTOCOL', `the holder answered ${JSON.stringify(answer.slice(0, 100))}`, options);
  }
  return answer;
}
