/** Options and result of unpacking. */
import type { OnProgress } from '../observe/progress.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import type { StoreOptions } from '../registry/store.ts';

/** `dir`: a directory; `tar`: a tar file; `image`: an ordinary image in any store, of one layer. */
export type UnpackForm = 'dir' | 'tar' | 'image';

/** Options of {@link unpack}. */
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
  /** How the registry of the target is reached. */
  readonly target?: StoreOptions;
  /** Called with the progress of every layer. */
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

/** The result of {@link unpack}. */
export interface UnpackResult {
  /** The reference that was unpacked. */
  readonly source: string;
  /** The directory, file or reference that was written. */
  readonly target: string;
  /** The form of the target. */
  readonly format: UnpackForm;
  /** Of an image: its manifest. */
  readonly digest: string | null;
  /** Names of any type, and bytes of regular files; null where layers were copied as they are. */
  readonly entries: number | null;
  /** Bytes of regular files; null where layers were copied as they are. */
  readonly bytes: number | null;
  /** Properties that could not be kept. */
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
