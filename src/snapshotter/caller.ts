/** Asks the calling containerd for the labels that its content store keeps. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { NAME_SOCKET } from '../doctor/pid-namespace.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import { containerdService } from '../grpc/containerd.ts';
import { unixChannel } from '../grpc/unix.ts';
import type { Labels } from './info.ts';

export interface Caller {
  /** Process id; 0 when it lives in a PID namespace that cannot be seen from here. */
  readonly pid: number;
  /** containerd's namespace, the first part of a snapshot's key. */
  readonly namespace: string;
}

/** `key`: of a snapshot, as containerd makes it: `namespace/number/name`. */
export const callerOf = (pid: number, key: string): Caller => ({ pid, namespace: key.slice(0, key.indexOf('/')) });

/** Milliseconds that a socket may take to answer: containerd's content store answers at once. */
const PATIENCE = 2_000;

/** Answer of a content store. */
export interface Answer {
  readonly socket: string;
  /** Null: it does not have the digest. */
  readonly labels: Labels | null;
}

/** Asks for the labels of `digest`. Null: no socket of `sockets` is a content store's. UNAVAILABLE when that is uncertain. */
export async function askContent(
  sockets: readonly string[],
  namespace: string,
  digest: string,
): Promise<Answer | null> {
  // containerd's other sockets may have another protocol: they are asked only when the usual ones give no answer.
  const usual = sockets.filter((socket) => socket.endsWith('/containerd.sock'));
  const first = await askAll(usual, namespace, digest).catch(toLacunaError);
  if (first !== null && !(first instanceof LacunaError)) return first;
  const others = sockets.filter((socket) => !usual.includes(socket));
  const second = await askAll(others, namespace, digest);
  if (second === null && first !== null) throw first;
  return second;
}

async function askAll(sockets: readonly string[], namespace: string, digest: string): Promise<Answer | null> {
  const outcomes = await Promise.all(sockets.map((socket) => ask(socket, namespace, digest)));
  let failure: LacunaError | null = null;
  for (const outcome of outcomes) {
    if (outcome instanceof LacunaError) failure = outcome;
    else if (outcome !== null) return outcome;
  }
  if (failure !== null) throw failure;
  return null;
}

/** Null: not a content store. An error leaves that undecided. */
async function ask(socket: string, namespace: string, digest: string): Promise<Answer | LacunaError | null> {
  using channel = unixChannel(socket, containerdService('Content'));
  try {
    const settings = { timeout: PATIENCE, metadata: { 'containerd-namespace': namespace } };
    const { info } = await channel.call('Info', { digest }, settings);
    return { socket, labels: info?.labels ?? null };
  } catch (error) {
    const failure = toLacunaError(error);
    if (failure.code === 'UNSUPPORTED') return null;
    return failure.code === 'NOT_FOUND' ? { socket, labels: null } : failure;
  }
}

/** A row of /proc/net/unix: flags with __SO_ACCEPTCON, SOCK_STREAM, any state, the inode, an absolute path. */
const LISTENING = /^\S+ \S+ \S+ 00010000 0001 \S+ +(\d+) (\/.+)$/;

/** Paths, seen from this process, of the UNIX sockets that a process listens on. NOT_FOUND, FORBIDDEN. */
export async function listeningSockets(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}`;
  try {
    const names = await readdir(join(folder, 'fd'));
    const open = new Set(await Promise.all(names.map((name) => readlink(join(folder, 'fd', name)).catch(() => ''))));
    const rows = (await readFile(join(folder, 'net', 'unix'), 'utf8')).split('\n').map((row) => LISTENING.exec(row));
    const paths = rows.filter((row) => row !== null && open.has(`socket:[${row[1]}]`)).map((row) => row![2]!);
    const root = (await seesOurFiles(folder)) ? '' : join(folder, 'root');
    // containerd serves its second protocol at the first one's address with this suffix.
    return paths.filter((path) => !path.endsWith('.ttrpc')).map((path) => root + path);
  } catch (error) {
    throw toLacunaError(error, { op: 'find the caller', subject: `process ${pid}`, hint: NAME_SOCKET });
  }
}

const seesOurFiles = async (folder: string): Promise<boolean> =>
  (await readlink(join(folder, 'ns', 'mnt'))) === (await readlink('/proc/self/ns/mnt'));
