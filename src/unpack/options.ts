/** Options and result of unpacking. */
import type { OnProgress } from '../observe/progress.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import type { StoreOptions } from '../registry/store.ts';

/** `dir`: a directory; `tar`: a tar file; `image`: an ordinary image in any store, of one layer. */
export type UnpackForm = 'dir' | 'tar' | 'image';

export interface UnpackOptions extends OpenImageOptions {
  /** Default: `image` for a target that names a store (`oci:…`), `tar` for `-` and `*.tar`, else `dir`. */
  readonly format?: UnpackForm;
  /**
   * The image's own layers instead of one with their merged content. A lazy image does not keep them: they are taken
   * from the original, if it is still where the lazy image is; NOT_FOUND otherwise.
   */
  readonly layers?: boolean;
  /** How the layer is compressed. Default: gzip, and none for `docker-archive:`. */
  readonly compress?: 'gzip' | 'none';
  /** Leave owners, devices and privileged attributes out of a directory. Default: unless this is root. */
  readonly rootless?: boolean;
  readonly target?: StoreOptions;
  readonly onProgress?: OnProgress;
}

/** Number of entries that a directory or tar could not keep. */
export interface Skipped {
  /** Entries that belong to the current user instead of their owner. */
  readonly owners: number;
  /** Device nodes that were not made. */
  readonly devices: number;
  /** Extended attributes that the file system, the user or a tar cannot keep. */
  readonly xattrs: number;
  /** Sockets, which no tar can hold. */
  readonly sockets: number;
}

export const NOTHING_SKIPPED: Skipped = { owners: 0, devices: 0, xattrs: 0, sockets: 0 };

export interface UnpackResult {
  readonly source: string;
  readonly target: string;
  readonly format: UnpackForm;
  /** Of an image: its manifest. */
  readonly digest: string | null;
  /** Names of any type, and bytes of regular files; null where layers were copied as they are. */
  readonly entries: number | null;
  readonly bytes: number | null;
  readonly skipped: Skipped;
}

/** {@link UnpackOptions} with everything decided. */
export interface UnpackPlan {
  readonly rootless: boolean;
  /** Of this process. */
  readonly uid: number;
  readonly gid: number;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}
