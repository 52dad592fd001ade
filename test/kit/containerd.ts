/** A containerd of one's own: its root, state and sockets lie in a folder of the test; the host's config is left out. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Finished, type Running, run, start, waitUntil } from './process.ts';

export interface ContainerdOptions {
  /** Socket of a proxy snapshotter, known as `lacuna`. */
  readonly lacuna?: string;
  /** Folder with containerd's programs instead of those on PATH; they must be of containerd 2. */
  readonly containerd2?: string;
  /** Serves CRI as well, on the same socket; Debian's containerd only. */
  readonly cri?: CriOptions;
}

export interface CriOptions {
  readonly sandboxImage: string;
  /** The proxy snapshotter for all of CRI's images, by its socket; null: overlayfs. */
  readonly snapshotter: string | null;
  /** Whether it tells the snapshotter where layers come from. Default true, other than CRI's own. */
  readonly annotates?: boolean;
}

export interface Containerd extends AsyncDisposable {
  /** Path of the socket. */
  readonly address: string;
  readonly process: Running;
  /** Arguments of a `ctr` call to this containerd, for callers that run it themselves. */
  ctrArgs(...args: string[]): string[];
  ctr(...args: string[]): Promise<Finished>;
  /** Shell command that mounts the View `key` of the snapshot `parent`, made here, at `target`. */
  view(snapshotter: string, key: string, parent: string, target: string): Promise<string>;
  /** Options of `ctr run`: a container's state lies under `dir` as well, and not where all containerds keep theirs. */
  readonly runFlags: readonly string[];
}

/** Starts containerd under `dir` (short: a socket's path has to stay below 108 bytes) and waits until it answers. */
export async function startContainerd(dir: string, options: ContainerdOptions = {}): Promise<Containerd> {
  mkdirSync(dir, { recursive: true });
  const address = join(dir, 'c.sock');
  const config = join(dir, 'config.toml');
  const { containerd2 } = options;
  writeFileSync(config, configOf(dir, address, options));
  // containerd finds its shim on PATH.
  const env = containerd2 === undefined ? process.env : { ...process.env, PATH: `${containerd2}:${process.env.PATH}` };
  const program = (name: string): string => (containerd2 === undefined ? name : join(containerd2, name));
  const running = start(program('containerd'), ['--config', config, '--log-level', 'info'], env);
  const ctrArgs = (...args: string[]): string[] => ['--address', address, ...args];
  const answers = async (): Promise<boolean> =>
    existsSync(address) &&
    (await run(program('ctr'), ctrArgs('--timeout', '2s', 'version')).then(
      () => true,
      () => false,
    ));
  await waitUntil(running, 'containerd', answers);
  const ctr = (...args: string[]): Promise<Finished> => run(program('ctr'), ctrArgs(...args));
  return {
    address,
    process: running,
    ctrArgs,
    ctr,
    async view(snapshotter, key, parent, target) {
      const snapshots = (...args: string[]): Promise<Finished> =>
        ctr('snapshots', '--snapshotter', snapshotter, ...args);
      // `ctr` labels a View only after it has been made: a collection that is under way takes it, so it is made again.
      for (let tries = 1; ; tries += 1) {
        try {
          await snapshots('view', key, parent);
          await snapshots('label', key, 'containerd.io/gc.root=test');
          return (await snapshots('mounts', target, key)).stdout;
        } catch (error) {
          if (tries === 5 || !String(error).includes('not found')) throw error;
        }
      }
    },
    runFlags: ['--rm', '--runc-root', join(dir, 'runc')],
    async [Symbol.asyncDispose]() {
      await running.stop();
      await endShims(address);
    },
  };
}

/** CRI is left out unless it is asked for, so are snapshotters that need what is not here. */
const DISABLED = {
  cri: ['io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper'],
  1: ['io.containerd.grpc.v1.cri', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper'],
  2: ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri'],
};

function configOf(dir: string, address: string, { lacuna, containerd2, cri }: ContainerdOptions): string {
  const text = JSON.stringify;
  const [version, disabled] = containerd2 === undefined ? [2, DISABLED[cri ? 'cri' : 1]] : [3, DISABLED[2]];
  const proxy =
    lacuna === undefined ? '' : `[proxy_plugins.lacuna]\n  type = "snapshot"\n  address = ${text(lacuna)}\n`;
  // The transfer service pulls for `ctr`, and has to be told what remote snapshotters want to know.
  const transfer = `  [proxy_plugins.lacuna.exports]
    enable_remote_snapshot_annotations = "true"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "lacuna"
`;
  return `version = ${version}
root = ${text(join(dir, 'root'))}
state = ${text(join(dir, 'state'))}
disabled_plugins = ${text(disabled)}
[grpc]
  address = ${text(address)}
${proxy}${lacuna === undefined || containerd2 === undefined ? '' : transfer}${cri === undefined ? '' : criConfig(dir, cri)}`;
}

/**
 * CRI without a network of its own: pods use the host's. Annotations reach the snapshotter as labels. A sandbox would
 * protect itself from the OOM killer, which is not allowed everywhere.
 */
function criConfig(dir: string, { sandboxImage, snapshotter, annotates = true }: CriOptions): string {
  const text = JSON.stringify;
  const proxy =
    snapshotter === null ? '' : `[proxy_plugins.cri]\n  type = "snapshot"\n  address = ${text(snapshotter)}\n`;
  return `${proxy}[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = ${text(sandboxImage)}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = ${text(join(dir, 'cni'))}
    conf_dir = ${text(join(dir, 'cni'))}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = ${text(snapshotter === null ? 'overlayfs' : 'cri')}
    disable_snapshot_annotations = ${!annotates}
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = ${text(join(dir, 'runc'))}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = ${text(join(dir, 'certs.d'))}
`;
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
