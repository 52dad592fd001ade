/** Whether containerd is there at all: gRPC itself says of a missing socket only that no connection was established. */
import { connect } from 'node:net';
import { type ErrorCode, LacunaError, toLacunaError } from '../errors.ts';

const MEANING: Readonly<Record<string, readonly [code: ErrorCode, problem: string, hint: string]>> = {
  ENOENT: ['UNAVAILABLE', 'no such socket', 'is containerd running? Name its socket with --containerd'],
  ECONNREFUSED: ['UNAVAILABLE', 'nobody listens', 'is containerd running? Name its socket with --containerd'],
  ENOTSOCK: ['USAGE', 'not a socket', "name containerd's socket with --containerd"],
  EACCES: ['FORBIDDEN', 'permission denied', 'run it as root, e.g. with sudo'],
};

/** The path of a socket that may be written `unix://PATH`. Throws when nobody listens there. */
export async function listeningSocket(address: string): Promise<string> {
  const path = address.replace(/^unix:\/\//, '');
  const problem = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(null);
    });
    socket.on('error', resolve);
  });
  if (problem === null) return path;
  const meaning = MEANING[problem.code ?? ''];
  if (meaning === undefined) throw toLacunaError(problem, { op: 'pull', subject: path });
  const [code, text, hint] = meaning;
  throw new LacunaError(code, `containerd does not answer: ${text}`, { op: 'pull', subject: path, hint });
}
