/** Whether the processes of this host can be told from here: the snapshotter asks the containerd that calls it. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Finding, ok, refused } from './probe-result.ts';

/** PROC_PID_INIT_INO of the kernel: the namespace in which every process has an id. */
const INITIAL = 'pid:[4026531836]';

/** Hint for hosts where the containerd that calls cannot be found by its process. */
export const NAME_SOCKET = "name containerd's socket in the configuration: [snapshotter] containerd";

/** `proc`: for tests. */
export async function probePidNamespace(proc = '/proc'): Promise<Finding> {
  const namespace = await readlink(join(proc, 'self/ns/pid')).catch(() => null);
  if (namespace === INITIAL) return ok("the host's");
  if (await hasContainerd(proc)) return ok('containerd runs in it as well');
  const where = namespace === null ? 'unknown, as /proc is not mounted' : "not the host's, and containerd is not in it";
  return refused(`${where}: the snapshotter refuses lazy images unless it knows containerd's socket`, NAME_SOCKET);
}

async function hasContainerd(proc: string): Promise<boolean> {
  const pids = (await readdir(proc).catch(() => [])).filter((name) => /^\d+$/.test(name));
  const names = await Promise.all(pids.map((pid) => readFile(join(proc, pid, 'comm'), 'utf8').catch(() => '')));
  return names.some((name) => name.trim() === 'containerd');
}
