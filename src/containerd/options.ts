/** What `pull` is told. */
import type { Platform } from '../image/platform.ts';
import type { Log } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { CredentialSource } from '../registry/store.ts';

/** The name that the README gives the proxy plugin. */
export const DEFAULT_SNAPSHOTTER = 'lacuna';

export interface PullOptions {
  /** containerd's UNIX socket. */
  readonly containerd: string;
  readonly namespace: string;
  /** Name of the proxy plugin in containerd's configuration; default {@link DEFAULT_SNAPSHOTTER}. */
  readonly snapshotter?: string;
  /** Its socket. Default: asked of containerd. */
  readonly snapshotterAddress?: string;
  /** Default: this machine's. */
  readonly platform?: Platform;
  /** What it gives for the image's registry is told to the snapshotter and the daemon, in memory. Default: nobody's. */
  readonly credentials?: CredentialSource;
  /** HTTP instead of HTTPS. Default: for loopback hosts only. */
  readonly plainHttp?: boolean;
  /** PEM text of authorities to trust besides the system's. */
  readonly ca?: string;
  readonly log?: Log;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}
