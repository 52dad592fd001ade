/**
 * A lock by the name of an abstract socket of Linux, for places where files cannot be locked. It needs no file and ends
 * with its process. Its scope is the network namespace, in which any process can hold it.
 */
import { createServer } from 'node:net';
import { hasCode } from './layout-temporary.ts';

/**
 * Takes the lock; null while another process has it. On other systems than Linux it always succeeds and locks nothing.
 */
export function tryName(name: string): Promise<{ close(): Promise<void> } | null> {
  if (process.platform !== 'linux') return Promise.resolve({ close: async () => {} });
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error) => {
      if (hasCode(error, 'EADDRINUSE')) resolve(null);
      else reject(error);
    });
    server.listen({ path: `\0${name}` }, () => {
      resolve({ close: () => new Promise((done) => server.close(() => done())) });
    });
  });
}
