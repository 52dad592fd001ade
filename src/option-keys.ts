/** The options of every public function, by name. The compiler holds each list to its type. */

import type { AuthFileOptions } from './access/credentials.ts';
import type { CheckOptions } from './check/check.ts';
import type { PullOptions } from './containerd/options.ts';
import type { ExportOptions } from './convert/export.ts';
import type { MergeOptions } from './convert/merge-bootstraps.ts';
import type { ConvertOptions } from './convert/options.ts';
import type { RunOptions } from './daemon/run.ts';
import type { ProbeOptions } from './doctor/doctor.ts';
import type { KeysOf } from './guard.ts';
import type { DiffOptions } from './inspect/diff.ts';
import type { FindOptions } from './inspect/find.ts';
import type { InspectOptions } from './inspect/inspect.ts';
import type { LsOptions } from './inspect/ls.ts';
import type { ReferrersOptions } from './inspect/referrers.ts';
import type { StatOptions } from './inspect/stat.ts';
import type { TagsOptions } from './inspect/tags.ts';
import type { CleanupOptions } from './mount/cleanup.ts';
import type { UnmountOptions } from './mount/erofs.ts';
import type { MountImageOptions } from './mount/image.ts';
import type { OpenImageOptions } from './reader/image.ts';
import type { LoginOptions } from './registry/login.ts';
import type { RetryOptions, StoreOptions, TimeoutOptions } from './registry/store.ts';
import type { ServeOptions } from './snapshotter/serve.ts';
import type { UnpackOptions } from './unpack/options.ts';

const RETRY = {
  ...{ attempts: true, minDelay: true, maxDelay: true },
  ...{ maxRetryAfter: true, total: true },
} satisfies KeysOf<RetryOptions>;
const TIMEOUTS = { connect: true, headers: true, body: true } satisfies KeysOf<TimeoutOptions>;

/** How a registry is reached. */
const ACCESS = {
  plainHttp: true,
  tlsVerify: true,
  ca: true,
  cert: true,
  key: true,
  transport: true,
  log: true,
  retry: RETRY,
  timeouts: TIMEOUTS,
} as const;

export const STORE = {
  ...ACCESS,
  credentials: true,
  foreignLayers: true,
  create: true,
} satisfies KeysOf<StoreOptions>;

export const OPEN = {
  platform: true,
  store: STORE,
  referrers: true,
  signal: true,
  onProgress: true,
  digests: true,
} satisfies KeysOf<OpenImageOptions>;

export const LS = { ...OPEN, path: true, recursive: true, layers: true } satisfies KeysOf<LsOptions>;
export const STAT = { ...OPEN, dereference: true } satisfies KeysOf<StatOptions>;
export const DIFF = { ...OPEN, ignore: true } satisfies KeysOf<DiffOptions>;
export const INSPECT = { ...OPEN, tree: true, chunks: true } satisfies KeysOf<InspectOptions>;

export const TAGS = { store: STORE, signal: true } satisfies KeysOf<TagsOptions>;
export const REFERRERS = { type: true, store: STORE, signal: true } satisfies KeysOf<ReferrersOptions>;

export const FIND = {
  ...OPEN,
  path: true,
  name: true,
  wholePath: true,
  types: true,
  size: true,
  newer: true,
  perm: true,
  uid: true,
  gid: true,
  xattr: true,
  blob: true,
  empty: true,
  maxDepth: true,
} satisfies KeysOf<FindOptions>;

export const CHECK = {
  platform: true,
  store: STORE,
  signal: true,
  onProgress: true,
  deep: true,
} satisfies KeysOf<CheckOptions>;

export const EXPORT = OPEN satisfies KeysOf<ExportOptions>;

export const UNPACK = {
  ...OPEN,
  format: true,
  layers: true,
  compress: true,
  rootless: true,
  target: STORE,
} satisfies KeysOf<UnpackOptions>;

export const CONVERT = {
  platforms: true,
  chunkSize: true,
  compressor: true,
  level: true,
  digester: true,
  batchSize: true,
  blob: true,
  align: true,
  prefetch: true,
  ociRef: true,
  dedup: true,
  dicts: true,
  as: true,
  force: true,
  records: true,
  source: STORE,
  target: STORE,
  log: true,
  onProgress: true,
  signal: true,
} satisfies KeysOf<ConvertOptions>;

export const MERGE = { prefetch: true, align: true, onDropped: true } satisfies KeysOf<MergeOptions>;

export const MOUNT = {
  driver: true,
  suid: true,
  dev: true,
  root: true,
  platform: true,
  referrers: true,
  store: STORE,
  caFile: true,
  isLoginShared: true,
  config: true,
  log: true,
  logLevel: true,
  logFormat: true,
  onProgress: true,
  signal: true,
} satisfies KeysOf<MountImageOptions>;

export const LOGIN = { ...ACCESS, authFile: true, signal: true } satisfies KeysOf<LoginOptions>;

export const LOGOUT = { authFile: true } satisfies KeysOf<AuthFileOptions>;

export const PULL = {
  credentials: true,
  plainHttp: true,
  ca: true,
  transport: true,
  log: true,
  containerd: true,
  namespace: true,
  snapshotter: true,
  snapshotterAddress: true,
  platform: true,
  referrers: true,
  onProgress: true,
  signal: true,
} satisfies KeysOf<PullOptions>;

export const UMOUNT = { detach: true, patience: true } satisfies KeysOf<UnmountOptions>;
export const CLEANUP = { force: true, purge: true, log: true } satisfies KeysOf<CleanupOptions>;
export const DOCTOR = { folder: true } satisfies KeysOf<ProbeOptions>;
export const DAEMON = { root: true, config: true, log: true, signal: true } satisfies KeysOf<RunOptions>;
export const SNAPSHOTTER = {
  root: true,
  address: true,
  config: true,
  configFile: true,
  log: true,
  logLevel: true,
  logFormat: true,
} satisfies KeysOf<ServeOptions>;
