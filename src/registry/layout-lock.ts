/**
 * One writer at a time for the index of a layout, between processes as well.
 *
 * A lock file would outlive a killed process. A name in Linux's abstract socket namespace does not, and needs no file
 * at all. It is as wide as the network namespace: containers that share a directory but not a network do not see it.
 */
import { stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LacunaError } from '../errors.ts';
import { hasCode } from './layout-temporary.ts';

/** Milliseconds. A holder reads, changes and renames one small file. */
const PATIENCE = 10_000;
const PAUSE = 10;

/** The last of this process to hold or to wait for each directory's lock: elsewhere than on Linux it is all there is. */
const queues = new Map<string, Promise<unknown>>();

/** Runs `work` while nobody else does for the same directory. Throws LOCKED after 10 s. */
export async function withLayoutLock<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const { dev, ino } = await stat(dir, { bigint: true });
  const name = `lacuna-layout-${dev}-${ino}`;
  const before = queues.get(name) ?? Promise.resolve();
  const mine = before.then(async () => {
    const server = process.platform === 'linux' ? await bind(`\0${name}`, dir) : null;
    try {
      return await work();
    } finally {
      await new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())));
    }
  });
  const settled = mine.catch(() => {});
  queues.set(name, settled);
  try {
    return await mine;
  } finally {
    if (queues.get(name) === settled) queues.delete(name);
  }
}

async function bind(path: string, dir: string): Promise<Server> {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const server = await listen(path);
    if (server !== null) return server;
    if (Date.now() >= deadline) {
      throw new LacunaError('LOCKED', `the index of ${dir} is being written by another process`, {
        op: 'push',
        subject: dir,
      });
    }
    await sleep(PAUSE * (1 + Math.random()));
  }
}

/** A server that holds the name, or null when somebody else does. */
function listen(path: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error) => {
      if (hasCode(error, 'EADDRINUSE')) resolve(null);
      else reject(error);
    });
    server.listen({ path }, () => resolve(server));
  });
}
