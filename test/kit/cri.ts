/** Images pulled and run as the kubelet does it: through containerd's CRI, with crictl. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { oraclePath } from '#cache';
import { BUSYBOX } from './box-image.ts';
import { type Containerd, type CriOptions, startContainerd } from './containerd.ts';
import type { DockerRegistry } from './docker-registry.ts';
import { unmountBelow } from './mounts.ts';
import { type Finished, run } from './process.ts';
import { sourceLayout } from './source-image.ts';
import { END, member } from './tar.ts';

/** NamespaceMode.NODE of the CRI: the pod has the host's network. */
const HOST_NETWORK = 2;

/** A containerd 1.6 whose CRI uses one snapshotter for everything. */
export class CriHost implements AsyncDisposable {
  readonly #dir: string;
  readonly #containerd: Containerd;

  private constructor(dir: string, containerd: Containerd) {
    this.#dir = dir;
    this.#containerd = containerd;
  }

  /** `snapshotter`: its socket; null: overlayfs. `dir` has to be short, for the sockets in it. */
  static async start(
    dir: string,
    snapshotter: string | null,
    sandboxImage: string,
    options: Pick<CriOptions, 'annotates'> = {},
  ): Promise<CriHost> {
    return new CriHost(dir, await startContainerd(dir, { cri: { snapshotter, sandboxImage, ...options } }));
  }

  async pull(image: string): Promise<void> {
    await this.#crictl('pull', image);
  }

  async remove(image: string): Promise<void> {
    await this.#crictl('rmi', image);
  }

  /** Digests of what containerd's content store holds. */
  async content(): Promise<string[]> {
    const { stdout } = await this.#containerd.ctr('--namespace', 'k8s.io', 'content', 'ls', '--quiet');
    return stdout.trimEnd().split('\n');
  }

  /** Runs a command in a pod of its own, with the host's network. Returns its output once it has ended well. */
  async run(image: string, command: readonly string[]): Promise<string> {
    const logs = mkdtempSync(join(this.#dir, 'logs-'));
    const network = { security_context: { namespace_options: { network: HOST_NETWORK } } };
    const pod = this.#document('pod', {
      metadata: { name: 'pod', namespace: 'default', uid: logs, attempt: 1 },
      log_directory: logs,
      linux: network,
    });
    const container = this.#document('container', {
      metadata: { name: 'main' },
      image: { image },
      command,
      log_path: 'main.log',
      linux: {},
    });
    const sandbox = (await this.#crictl('runp', pod)).stdout.trim();
    try {
      const id = (await this.#crictl('create', '--no-pull', sandbox, container, pod)).stdout.trim();
      await this.#crictl('start', id);
      const code = await this.#exitCode(id);
      const { stdout, stderr } = await this.#crictl('logs', id);
      if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}:\n${stderr}${stdout}`);
      return stdout;
    } finally {
      await this.#crictl('rmp', '--force', sandbox);
    }
  }

  async #exitCode(id: string): Promise<number> {
    for (;;) {
      const { status } = JSON.parse((await this.#crictl('inspect', id)).stdout) as {
        status: { state: string; exitCode: number };
      };
      if (status.state === 'CONTAINER_EXITED') return status.exitCode;
      await sleep(100);
    }
  }

  #document(name: string, content: unknown): string {
    const path = join(this.#dir, `${name}.json`);
    writeFileSync(path, JSON.stringify(content));
    return path;
  }

  /** crictl would look for a config of the host. */
  #crictl(...args: string[]): Promise<Finished> {
    const endpoint = `unix://${this.#containerd.address}`;
    const flags = ['--config', this.#document('crictl', { timeout: 0 })];
    const endpoints = ['--runtime-endpoint', endpoint, '--image-endpoint', endpoint, '--timeout', '120s'];
    return run(oraclePath('crictl'), [...flags, ...endpoints, ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#containerd[Symbol.asyncDispose]();
    unmountBelow(this.#dir);
  }
}

/** Pushes the image of a pod's sandbox, a static busybox that sleeps. Returns its name. */
export async function pushSandboxImage(registry: DockerRegistry, dir: string): Promise<string> {
  mkdirSync(dir);
  const busybox = readFileSync(BUSYBOX, 'latin1');
  const source = sourceLayout(dir, {
    layers: [{ tar: Buffer.concat([member({ name: 'busybox', data: busybox, mode: 0o755 }), END]) }],
    config: { config: { Entrypoint: ['/busybox', 'sleep', 'infinity'] } },
  });
  const image = `${registry.address}/pause:1`;
  await run('skopeo', ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false', source, `docker://${image}`]);
  return image;
}
