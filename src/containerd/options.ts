/** Options of `pull`. */
import type { Platform } from '../image/platform.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { StoreOptions } from '../registry/store.ts';

/** The name that the README gives the proxy plugin. */
export const DEFAULT_SNAPSHOTTER = 'lacuna';

/** `credentials`: what they give for the image's registry is told to the snapshotter and the daemon, in memory. */
type RegistryOptions = Pick<StoreOptions, 'credentials' | 'plainHttp' | 'ca' | 'transport' | 'log'>;

/** Options of {@link pull}. */
export interface PullOptions extends RegistryOptions {
  /** containerd's UNIX socket. */
  readonly containerd: string;
  /** containerd's namespace, e.g. `default` or `k8s.io`. */
  readonly namespace: string;
  /** Name of the proxy plugin in containerd's configuration; default {@link DEFAULT_SNAPSHOTTER}. */
  readonly snapshotter?: string;
  /** Its socket. Default: the address that containerd reports. */
  readonly snapshotterAddress?: string;
  /** Default: this machine's. */
  readonly platform?: Platform;
  /** Whether a lazy image that refers to this one is used; default: unless the reference names a digest. */
  readonly referrers?: boolean;
  /** Called with the progress of every download. */
  readonly onProgress?: OnProgress;
  /** Aborts the pull. */
  readonly signal?: AbortSignal;
}
