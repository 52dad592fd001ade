/**
 * A lock by a name of Linux's abstract sockets, for where files cannot be locked. It needs no file and goes with its process;
 * it is as wide as the network namespace, and anybody there can hold it.
 */
import { createServer } from 'node:net';
import { hasCode } from './layout-temporary.ts';

/** Null while somebody else has it. Elsewhere than on Linux there is nothing to be held. */
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
