/**
 * The front door of the library: every command as a typed function, and the types they speak in. Importing it loads
 * nothing that a program may not need: a function loads its code when it is first called, the native addon and optional
 * dependencies where they are needed then.
 */
import { guarded } from './guard.ts';
import {
  CLEANUP,
  CONVERT,
  DAEMON,
  DOCTOR,
  EXPORT,
  LOGIN,
  LOGOUT,
  MERGE,
  MOUNT,
  OPEN,
  PULL,
  SNAPSHOTTER,
  UMOUNT,
  UNPACK,
} from './option-keys.ts';

export { defaultConfig, loadConfig, parseConfig, sampleConfig } from './config/load.ts';
export { CONFIG_TABLE, type Config, type Key } from './config/table.ts';
export type { PullOptions } from './containerd/options.ts';
export type { PullResult } from './containerd/pull.ts';
export type { ConvertResult } from './convert/convert.ts';
export type { ExportOptions, ExportResult } from './convert/export.ts';
export type { MergeOptions } from './convert/merge-bootstraps.ts';
export {
  type BlobForm,
  type CompressorName,
  type ConvertOptions,
  DEFAULT_ALIGN,
  DEFAULT_CHUNK_SIZE,
  DEFAULT_LEVEL,
  type Dedup,
  type DigesterName,
  type TargetForm,
} from './convert/options.ts';
export type { DictionaryReport, ImageFacts, ImageReport, LayerFacts, LayerReport } from './convert/report.ts';
export type { Transfer } from './convert/transfer.ts';
export type { RunOptions as DaemonOptions } from './daemon/run.ts';
export type { DictGrowth } from './dict/dict.ts';
export type { DictPruned } from './dict/manage.ts';
export type { Access } from './dict/session.ts';
export type { DictStat } from './dict/sqlite-dict.ts';
export type { Diagnosis, ProbeOptions, ProbeResult } from './doctor/doctor.ts';
export type { Version } from './doctor/version.ts';
export type { OnDropped } from './formats/rafs/plan.ts';
export type { BuiltBootstrap } from './formats/rafs/write.ts';
export type { CleanupOptions, CleanupResult } from './mount/cleanup.ts';
export type { MountDriver, UnmountOptions } from './mount/erofs.ts';
export type { ImageDriver, MountedImage, MountImageOptions } from './mount/image.ts';
export * from './reader-entry.ts';
export type { LoginOptions, LoginResult } from './registry/login.ts';
export type { ServeOptions, SnapshotterServer } from './snapshotter/serve.ts';
export type { Skipped, UnpackForm, UnpackOptions, UnpackResult } from './unpack/options.ts';

export const convert: typeof import('./convert/convert.ts').convert = guarded(
  { op: 'convert', at: 2, keys: CONVERT },
  async () => (await import('./convert/convert.ts')).convert,
);
/** The command `export`, whose name is a reserved word: `import { export as exportImage }` works as well. */
export const exportImage: typeof import('./convert/export.ts').exportImage = guarded(
  { op: 'export', at: 2, keys: EXPORT },
  async () => (await import('./convert/export.ts')).exportImage,
);
export { exportImage as export };
export const merge: typeof import('./convert/merge-bootstraps.ts').mergeBootstraps = guarded(
  { op: 'merge', at: 1, keys: MERGE },
  async () => (await import('./convert/merge-bootstraps.ts')).mergeBootstraps,
);
export { merge as mergeBootstraps };
export const unpack: typeof import('./unpack/unpack.ts').unpack = guarded(
  { op: 'unpack', at: 2, keys: UNPACK },
  async () => (await import('./unpack/unpack.ts')).unpack,
);

export const dictAdd: typeof import('./dict/manage.ts').dictAdd = guarded(
  { op: 'dict add', at: 2, keys: OPEN },
  async () => (await import('./dict/manage.ts')).dictAdd,
);
export const dictStat: typeof import('./dict/manage.ts').dictStat = guarded(
  { op: 'dict stat', at: 1, keys: null },
  async () => (await import('./dict/manage.ts')).dictStat,
);
export const dictPrune: typeof import('./dict/manage.ts').dictPrune = guarded(
  { op: 'dict prune', at: 1, keys: OPEN },
  async () => (await import('./dict/manage.ts')).dictPrune,
);
/** `lacuna dict add|stat|prune`. */
export const dict: { add: typeof dictAdd; stat: typeof dictStat; prune: typeof dictPrune } = {
  add: dictAdd,
  stat: dictStat,
  prune: dictPrune,
};

export const mount: typeof import('./mount/image.ts').mountImage = guarded(
  { op: 'mount', at: 2, keys: MOUNT },
  async () => (await import('./mount/image.ts')).mountImage,
);
export const umount: typeof import('./mount/umount.ts').umount = guarded(
  { op: 'umount', at: 1, keys: UMOUNT },
  async () => (await import('./mount/umount.ts')).umount,
);
export const cleanup: typeof import('./mount/cleanup.ts').cleanup = guarded(
  { op: 'cleanup', at: 1, keys: CLEANUP },
  async () => (await import('./mount/cleanup.ts')).cleanup,
);
/** The versions of what runs. */
export const version = async (): Promise<import('./doctor/version.ts').Version> =>
  (await import('./doctor/version.ts')).version();
export const doctor: typeof import('./doctor/doctor.ts').doctor = guarded(
  { op: 'doctor', at: 0, keys: DOCTOR },
  async () => (await import('./doctor/doctor.ts')).doctor,
);
export const pull: typeof import('./containerd/pull.ts').pull = guarded(
  { op: 'pull', at: 1, keys: PULL },
  async () => (await import('./containerd/pull.ts')).pull,
);
export const snapshotter: typeof import('./snapshotter/serve.ts').serveSnapshotter = guarded(
  { op: 'snapshotter', at: 0, keys: SNAPSHOTTER },
  async () => (await import('./snapshotter/serve.ts')).serveSnapshotter,
);
export const runDaemon: typeof import('./daemon/run.ts').runDaemon = guarded(
  { op: 'daemon', at: 0, keys: DAEMON },
  async () => (await import('./daemon/run.ts')).runDaemon,
);
export { runDaemon as daemon };

export const login: typeof import('./registry/login.ts').login = guarded(
  { op: 'login', at: 2, keys: LOGIN },
  async () => (await import('./registry/login.ts')).login,
);
export const logout: typeof import('./registry/login.ts').logout = guarded(
  { op: 'logout', at: 1, keys: LOGOUT },
  async () => (await import('./registry/login.ts')).logout,
);
