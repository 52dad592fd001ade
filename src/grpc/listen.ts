/** A UNIX socket that only its owner reaches, and which process is at the other end of each connection. */
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { toLacunaError } from '../errors.ts';
import { addon } from '../native/addon.ts';

/**
 * Listens at `path`; what lies there is replaced. `onConnection` gets the connections of root and of this process's user,
 * all others are closed: a mode that somebody widened does not let them in.
 */
export async function listenPrivately(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  await rm(path, { force: true });
  const us = process.geteuid!();
  const server = createServer((socket) => {
    const { pid, uid } = addon().peerOf(descriptorOf(socket));
    if (uid !== 0 && uid !== us) {
      socket.destroy();
      return;
    }
    // A UNIX socket has no address of its own; grpc-js hands this one on to the handlers of calls.
    Object.defineProperty(socket, 'remoteAddress', { value: `${PEER}${pid}` });
    onConnection(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(toLacunaError(error, { op: 'listen', subject: path })));
    server.listen({ fd: addon().listenPrivate(path) }, resolve);
  });
  return server;
}

const PEER = 'pid:';

/** The process id in the peer address of a call that came in over {@link listenPrivately}; 0 when it is not known. */
export function pidOf(peer: string): number {
  return peer.startsWith(PEER) ? Number(peer.slice(PEER.length)) : 0;
}

/** Node has no public way to a socket's descriptor. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
}
