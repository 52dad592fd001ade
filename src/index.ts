/**
 * The front door of the library: every verb as a typed function, and the types they speak in. Re-exports only.
 * Importing it loads neither the native addon nor any optional dependency; each is loaded where it is first needed.
 */

export { type CheckOptions, check } from './check/check.ts';
export type { Problem } from './check/findings.ts';
export type { CheckedImage, CheckReport } from './check/report.ts';
export { defaultConfig, loadConfig, parseConfig, sampleConfig } from './config/load.ts';
export { CONFIG_TABLE, type Config } from './config/table.ts';
export type { PullOptions } from './containerd/options.ts';
export { type PullResult, pull } from './containerd/pull.ts';
export { type ConvertResult, convert } from './convert/convert.ts';
export { type ExportOptions, type ExportResult, exportImage } from './convert/export.ts';
export type { DictionaryReport, ImageReport, LayerReport } from './convert/image.ts';
export { type MergeOptions, mergeBootstraps } from './convert/merge-bootstraps.ts';
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
export { type RunOptions as DaemonOptions, runDaemon } from './daemon/run.ts';
export { type DictPruned, dictAdd, dictPrune, dictStat } from './dict/manage.ts';
export type { DictStat } from './dict/sqlite-dict.ts';
export { CODES, type ErrorCode, EXIT, exitCodeOf, FormatError, isLacunaError, LacunaError } from './errors.ts';
export { formatReference, parseReference, type Reference } from './image/reference.ts';
export { type CleanupOptions, type CleanupResult, cleanup } from './mount/cleanup.ts';
export { type MountedImage, type MountImageOptions, mountImage as mount } from './mount/image.ts';
export { type Diagnosis, doctor, type ProbeRow } from './mount/probe.ts';
export { umount } from './mount/umount.ts';
export { type Version, version } from './mount/version.ts';
export { type Log, type LogFormat, type LogLevel, type LogOptions, openLog } from './observe/log.ts';
export type { OnProgress, Phase, Progress } from './observe/progress.ts';
export { cat } from './reader/cat.ts';
export { type Difference, type DiffOptions, diff, type FieldChange, type Ignorable } from './reader/diff.ts';
export { type ConfigChange, diffConfig } from './reader/diff-config.ts';
export { type FindOptions, type FindQuery, find, type Permissions } from './reader/find.ts';
export type { OpenedImage, OpenImageOptions, ReadFileOptions } from './reader/image.ts';
export { type Inspection, type InspectOptions, inspect } from './reader/inspect.ts';
export { type LsOptions, ls } from './reader/ls.ts';
export { openImage } from './reader/open.ts';
export type { Row } from './reader/rows.ts';
export { type Stat, type StatChunk, type StatOptions, stat } from './reader/stat.ts';
export { dockerConfigCredentials } from './registry/credentials.ts';
export { openStore } from './registry/open.ts';
export type { CredentialSource, Credentials, ImageStore, StoreOptions } from './registry/store.ts';
export { type ServeOptions, type SnapshotterServer, serveSnapshotter as snapshotter } from './snapshotter/serve.ts';
export type { FileNode, Mtime, NodeType } from './tree/node.ts';
export type { UnpackOptions, UnpackResult } from './unpack/options.ts';
export { unpack } from './unpack/unpack.ts';
