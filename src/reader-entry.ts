/**
 * `lacuna/reader`: looking into images, and nothing that converts, mounts or serves. Importing it loads neither gRPC nor
 * an HTTP client nor the native addon; what a function needs comes when it is called.
 */
import { guarded, guardedList } from './guard.ts';
import { CHECK, DIFF, FIND, INSPECT, LS, OPEN, REFERRERS, STAT, STORE, TAGS } from './option-keys.ts';

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
export type { Compressor, Decoder, Digester } from './native/addon.ts';
export { type Log, type LogFormat, type LogLevel, type LogOptions, openLog } from './observe/log.ts';
export type { OnProgress, Phase, Progress } from './observe/progress.ts';
export type { ChosenManifest } from './reader/choose.ts';
export type { Difference, DiffOptions, FieldChange, Ignorable } from './reader/diff.ts';
export type { ConfigChange } from './reader/diff-config.ts';
export type { FindOptions, FindQuery, Permissions } from './reader/find.ts';
export type {
  DigestsOptions,
  FilePiece,
  LayerOrigin,
  OpenedImage,
  OpenImageOptions,
  ReadFileOptions,
  ResolvedPath,
} from './reader/image.ts';
export type { Inspection, InspectOptions } from './reader/inspect.ts';
export type {
  InspectBootstrapOptions,
  InspectedBlob,
  InspectedBootstrap,
  InspectedChunks,
} from './reader/inspect-bootstrap.ts';
export type { InspectedLayer, InspectedManifest } from './reader/inspect-manifest.ts';
export type { InspectedEntry, InspectedReferrer, InspectedTag } from './reader/inspect-tag.ts';
export type { InspectedTree } from './reader/inspect-tree.ts';
export type { LayerShare } from './reader/layer-shares.ts';
export type { LsOptions } from './reader/ls.ts';
export type { ReferredManifest, ReferrerNode, ReferrersOptions } from './reader/referrers.ts';
export type { Row } from './reader/rows.ts';
export type { Stat, StatChunk, StatOptions } from './reader/stat.ts';
export type { TagsOptions } from './reader/tags.ts';
export type { AuthFileOptions } from './registry/credentials.ts';
export type { ImageInput } from './registry/source.ts';
export type {
  BlobUpload,
  CredentialSource,
  Credentials,
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
export const dockerConfigCredentials: typeof import('./registry/credentials.ts').dockerConfigCredentials =
  (options) =>
  async (...args) =>
    (await import('./registry/credentials.ts')).dockerConfigCredentials(options)(...args);

/** Credentials from where docker, podman and skopeo keep logins, and the helpers named there. */
export const storedCredentials: typeof import('./registry/credentials.ts').storedCredentials =
  (options) =>
  async (...args) =>
    (await import('./registry/credentials.ts')).storedCredentials(options)(...args);

export const openStore: typeof import('./registry/source.ts').openNamedStore = guarded(
  { op: 'openStore', at: 1, keys: STORE },
  async () => (await import('./registry/source.ts')).openNamedStore,
);
export const openImage: typeof import('./reader/open.ts').openImage = guarded(
  { op: 'openImage', at: 1, keys: OPEN },
  async () => (await import('./reader/open.ts')).openImage,
);
export const tags: typeof import('./reader/tags.ts').tags = guardedList(
  { op: 'tags', at: 1, keys: TAGS },
  async () => (await import('./reader/tags.ts')).tags,
);
export const referrers: typeof import('./reader/referrers.ts').referrers = guarded(
  { op: 'referrers', at: 1, keys: REFERRERS },
  async () => (await import('./reader/referrers.ts')).referrers,
);
export const ls: typeof import('./reader/ls.ts').ls = guardedList(
  { op: 'ls', at: 1, keys: LS },
  async () => (await import('./reader/ls.ts')).ls,
);
export const cat: typeof import('./reader/cat.ts').cat = guardedList(
  { op: 'cat', at: 2, keys: OPEN },
  async () => (await import('./reader/cat.ts')).cat,
);
export const stat: typeof import('./reader/stat.ts').stat = guarded(
  { op: 'stat', at: 2, keys: STAT },
  async () => (await import('./reader/stat.ts')).stat,
);
export const find: typeof import('./reader/find.ts').find = guardedList(
  { op: 'find', at: 1, keys: FIND },
  async () => (await import('./reader/find.ts')).find,
);
export const diff: typeof import('./reader/diff.ts').diff = guardedList(
  { op: 'diff', at: 2, keys: DIFF },
  async () => (await import('./reader/diff.ts')).diff,
);
export const diffConfig: typeof import('./reader/diff-config.ts').diffConfig = guarded(
  { op: 'diffConfig', at: 2, keys: OPEN },
  async () => (await import('./reader/diff-config.ts')).diffConfig,
);
export const inspect: typeof import('./reader/inspect.ts').inspect = guarded(
  { op: 'inspect', at: 1, keys: INSPECT },
  async () => (await import('./reader/inspect.ts')).inspect,
);
export const check: typeof import('./check/check.ts').check = guarded(
  { op: 'check', at: 1, keys: CHECK },
  async () => (await import('./check/check.ts')).check,
);
