/** A containerd of one's own: its root, state and sockets lie in a folder of the test; CRI and the host's config are left out. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Finished, type Running, run, start, waitUntil } from './process.ts';

export interface ContainerdOptions {
  /** Socket of a proxy snapshotter, known as `lacuna`. */
  readonly lacuna?: string;
}

export interface Containerd extends AsyncDisposable {
  /** Path of the socket. */
  readonly address: string;
  readonly process: Running;
  /** Arguments of a `ctr` call to this containerd, for callers that run it themselves. */
  ctrArgs(...args: string[]): string[];
  ctr(...args: string[]): Promise<Finished>;
}

/** Starts containerd under `dir` (short: a socket's path has to stay below 108 bytes) and waits until it answers. */
export async function startContainerd(dir: string, options: ContainerdOptions = {}): Promise<Containerd> {
  mkdirSync(dir, { recursive: true });
  const address = join(dir, 'c.sock');
  const config = join(dir, 'config.toml');
  const plugin =
    options.lacuna === undefined
      ? ''
      : `[proxy_plugins.lacuna]\n  type = "snapshot"\n  address = ${JSON.stringify(options.lacuna)}\n`;
  writeFileSync(
    config,
    `version = 2
root = ${JSON.stringify(join(dir, 'root'))}
state = ${JSON.stringify(join(dir, 'state'))}
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = ${JSON.stringify(address)}
${plugin}`,
  );
  const process = start('containerd', ['--config', config, '--log-level', 'info']);
  const ctrArgs = (...args: string[]): string[] => ['--address', address, ...args];
  const answers = async (): Promise<boolean> =>
    existsSync(address) &&
    (await run('ctr', ctrArgs('--timeout', '2s', 'version')).then(
      () => true,
      () => false,
    ));
  await waitUntil(process, 'containerd', answers);
  return {
    address,
    process,
    ctrArgs,
    ctr: (...args) => run('ctr', ctrArgs(...args)),
    async [Symbol.asyncDispose]() {
      await process.stop();
      await endShims(address);
    },
  };
}

/** Shims outlive containerd, with their containers. Ends those of the containerd at `address`. */
async function endShims(address: string): Promise<void> {
  const shims = (): number[] =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => commandOf(pid).includes('containerd-shim') && commandOf(pid).includes(`\0${address}\0`));
  for (let tries = 0; tries < 50; tries += 1) {
    const found = shims();
    if (found.length === 0) return;
    for (const shim of found) for (const pid of [...childrenOf(shim), shim]) kill(pid);
    await sleep(50);
  }
  throw new Error(`shims of ${address} do not end: ${shims().join(', ')}`);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Ended by itself.
  }
}
