/**
 * `lacuna/reader`: looking into images, and nothing that converts, mounts or serves. Importing it loads neither gRPC nor
 * an HTTP client nor the native addon; what a function needs comes when it is called.
 */
import { guarded, guardedList } from './guard.ts';
import { CHECK, DIFF, FIND, INSPECT, LS, OPEN, REFERRERS, STAT, STORE, TAGS } from './option-keys.ts';

export type { CredentialSource, Credentials } from './access/credential-source.ts';
export type { AuthFileOptions } from './access/credentials.ts';
export type { Chunk, Unit, Within } from './blob/table.ts';
export type { CheckedBlobReport } from './check/blobs.ts';
export type { CheckOptions } from './check/check.ts';
export type { Problem, Severity } from './check/findings.ts';
export type { CheckedImage, CheckReport } from './check/report.ts';
export {
  CODES,
  type ErrorCode,
  EXIT,
  exitCodeOf,
  FormatError,
  isLacunaError,
  LacunaError,
  type LacunaErrorOptions,
} from './errors.ts';
export type { Cipher, RafsBlob } from './formats/rafs/blob.ts';
export type { RafsImage } from './formats/rafs/open.ts';
export type { Superblock } from './formats/rafs/superblock.ts';
export type { Descriptor, ImageConfig, Index, Manifest } from './image/manifest.ts';
export type { LayerCompression } from './image/media.ts';
export type { Platform } from './image/platform.ts';
export {
  type ArchiveReference,
  type DirReference,
  type DockerReference,
  formatReference,
  type OciReference,
  parseReference,
  type RafsReference,
  type Reference,
} from './image/reference.ts';
export type {
  InspectBootstrapOptions,
  InspectedBlob,
  InspectedBootstrap,
  InspectedChunks,
} from './inspect/bootstrap.ts';
export type { Difference, DiffOptions, FieldChange, Ignorable } from './inspect/diff.ts';
export type { ConfigChange } from './inspect/diff-config.ts';
export type { Row } from './inspect/entries.ts';
export type { FindOptions, FindQuery, Permissions } from './inspect/find.ts';
export type { Inspection, InspectOptions } from './inspect/inspect.ts';
export type { LayerShare } from './inspect/layer-shares.ts';
export type { LsOptions } from './inspect/ls.ts';
export type { InspectedLayer, InspectedManifest } from './inspect/manifest.ts';
export type { ReferredManifest, ReferrerNode, ReferrersOptions } from './inspect/referrers.ts';
export type { Stat, StatChunk, StatOptions } from './inspect/stat.ts';
export type { InspectedEntry, InspectedReferrer, InspectedTag } from './inspect/tag.ts';
export type { TagsOptions } from './inspect/tags.ts';
export type { InspectedTree } from './inspect/tree.ts';
export type { Compressor, Decoder, Digester } from './native/addon.ts';
export { type Log, type LogFormat, type LogLevel, type LogOptions, openLog } from './observe/log.ts';
export type { OnProgress, Phase, Progress } from './observe/progress.ts';
export type {
  DigestsOptions,
  FilePiece,
  LayerOrigin,
  OpenedImage,
  OpenImageOptions,
  ReadFileOptions,
  ResolvedPath,
} from './reader/image.ts';
export type { ChosenManifest } from './reader/select-manifest.ts';
export type { ImageInput } from './registry/source.ts';
export type {
  BlobUpload,
  ForeignLayerPolicy,
  ImageStore,
  ReadOptions,
  RetryOptions,
  SignalOptions,
  StoreOptions,
  TimeoutOptions,
} from './registry/store.ts';
export {
  type ByteString,
  bytesOf,
  type DirectoryEntry,
  display,
  entriesOf,
  type FileChunk,
  type FileNode,
  fromText,
  type Mtime,
  type NodeType,
} from './tree/node.ts';

/** Credentials of Docker's config: `dir`, else `$DOCKER_CONFIG`, else `~/.docker`. A missing file knows nobody. */
export const dockerConfigCredentials: typeof import('./access/credentials.ts').dockerConfigCredentials =
  (options) =>
  async (...args) =>
    (await import('./access/credentials.ts')).dockerConfigCredentials(options)(...args);

/** Credentials from where docker, podman and skopeo keep logins, and the helpers named there. */
export const storedCredentials: typeof import('./access/credentials.ts').storedCredentials =
  (options) =>
  async (...args) =>
    (await import('./access/credentials.ts')).storedCredentials(options)(...args);

export const openStore: typeof import('./registry/source.ts').openNamedStore = guarded(
  { op: 'openStore', at: 1, keys: STORE },
  async () => (await import('./registry/source.ts')).openNamedStore,
);
export const openImage: typeof import('./reader/open.ts').openImage = guarded(
  { op: 'openImage', at: 1, keys: OPEN },
  async () => (await import('./reader/open.ts')).openImage,
);
export const tags: typeof import('./inspect/tags.ts').tags = guardedList(
  { op: 'tags', at: 1, keys: TAGS },
  async () => (await import('./inspect/tags.ts')).tags,
);
export const referrers: typeof import('./inspect/referrers.ts').referrers = guarded(
  { op: 'referrers', at: 1, keys: REFERRERS },
  async () => (await import('./inspect/referrers.ts')).referrers,
);
export const ls: typeof import('./inspect/ls.ts').ls = guardedList(
  { op: 'ls', at: 1, keys: LS },
  async () => (await import('./inspect/ls.ts')).ls,
);
export const cat: typeof import('./inspect/cat.ts').cat = guardedList(
  { op: 'cat', at: 2, keys: OPEN },
  async () => (await import('./inspect/cat.ts')).cat,
);
export const stat: typeof import('./inspect/stat.ts').stat = guarded(
  { op: 'stat', at: 2, keys: STAT },
  async () => (await import('./inspect/stat.ts')).stat,
);
export const find: typeof import('./inspect/find.ts').find = guardedList(
  { op: 'find', at: 1, keys: FIND },
  async () => (await import('./inspect/find.ts')).find,
);
export const diff: typeof import('./inspect/diff.ts').diff = guardedList(
  { op: 'diff', at: 2, keys: DIFF },
  async () => (await import('./inspect/diff.ts')).diff,
);
export const diffConfig: typeof import('./inspect/diff-config.ts').diffConfig = guarded(
  { op: 'diffConfig', at: 2, keys: OPEN },
  async () => (await import('./inspect/diff-config.ts')).diffConfig,
);
export const inspect: typeof import('./inspect/inspect.ts').inspect = guarded(
  { op: 'inspect', at: 1, keys: INSPECT },
  async () => (await import('./inspect/inspect.ts')).inspect,
);
export const check: typeof import('./check/check.ts').check = guarded(
  { op: 'check', at: 1, keys: CHECK },
  async () => (await import('./check/check.ts')).check,
);
