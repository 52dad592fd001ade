/**
 * Descriptors, manifests, indexes and image configs, validated. Docker's variants have the same shape.
 * Fields that this file does not name are dropped from descriptors, manifests and indexes, and kept in configs.
 * A list that is absent is empty, as it is in the structures of the Go programs that write these documents.
 */
import { z } from 'zod';
import { FormatError, LacunaError } from '../errors.ts';
import { isDigest, isOtherDigest } from './digest.ts';
import { parseRawJson, withoutNulls } from './json.ts';
import { DOCKER_SCHEMA1, isIndex, isManifest, MEDIA } from './media.ts';

/** The largest manifest, index or config that is read. The distribution spec asks registries for 4 MiB. */
export const MAX_MANIFEST_SIZE = 8 * 1024 * 1024;

/** More layers than any engine mounts; overlayfs stops at 500. */
const MAX_LAYERS = 1024;
const MAX_INDEX_ENTRIES = 4096;

/** The problem of a valid digest whose algorithm is not supported. */
const OTHER_DIGEST = 'a digest of an algorithm that is not supported (supported: sha256, sha512)';

const mediaType = z
  .string()
  .max(255)
  .regex(/^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/, 'not a media type');
const digest = z.string().refine(isDigest, {
  error: ({ input }) => (isOtherDigest(String(input)) ? OTHER_DIGEST : 'not a digest'),
});
const size = z.int().min(0);
const annotations = z.record(z.string(), z.string());

const platform = z.object({
  os: z.string().max(64).default(''),
  architecture: z.string().max(64).default(''),
  variant: z.string().max(64).exactOptional(),
  'os.version': z.string().max(128).exactOptional(),
  'os.features': z.array(z.string().max(128)).max(64).exactOptional(),
});

const descriptor = z.object({
  mediaType,
  digest,
  /** Bytes. */
  size,
  annotations: annotations.exactOptional(),
  platform: platform.exactOptional(),
  urls: z.array(z.string()).max(64).exactOptional(),
  artifactType: mediaType.exactOptional(),
});

const manifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: mediaType.refine(isManifest, 'not a manifest type').exactOptional(),
  artifactType: mediaType.exactOptional(),
  config: descriptor,
  layers: z.array(descriptor).max(MAX_LAYERS).default([]),
  subject: descriptor.exactOptional(),
  annotations: annotations.exactOptional(),
});

const index = z.object({
  schemaVersion: z.literal(2),
  mediaType: mediaType.refine(isIndex, 'not an index type').exactOptional(),
  artifactType: mediaType.exactOptional(),
  manifests: z.array(descriptor).max(MAX_INDEX_ENTRIES).default([]),
  subject: descriptor.exactOptional(),
  annotations: annotations.exactOptional(),
});

const artifact = z.object({
  mediaType: z.literal(MEDIA.ociArtifact),
  blobs: z.array(descriptor).max(MAX_LAYERS).default([]),
});

const history = z.looseObject({
  created: z.string().exactOptional(),
  created_by: z.string().exactOptional(),
  author: z.string().exactOptional(),
  comment: z.string().exactOptional(),
  empty_layer: z.boolean().exactOptional(),
});

const config = z.looseObject({
  /** Engines take their own where the config does not say. */
  os: z.string().max(64).exactOptional(),
  architecture: z.string().max(64).exactOptional(),
  variant: z.string().max(64).exactOptional(),
  created: z.string().exactOptional(),
  author: z.string().exactOptional(),
  config: z.looseObject({}).exactOptional(),
  rootfs: z.looseObject({
    type: z.literal('layers').default('layers'),
    diff_ids: z.array(digest).max(MAX_LAYERS).default([]),
  }),
  history: z.array(history).exactOptional(),
});

/** Identity of an object of a store: its type, digest and size in bytes. */
export type Descriptor = z.infer<typeof descriptor>;

/** An OCI image manifest, or Docker's of schema 2. */
export type Manifest = z.infer<typeof manifest>;

/** An OCI image index, or Docker's manifest list. */
export type Index = z.infer<typeof index>;
/** An image config, every field of it; `config.config` holds Env, Cmd and so on as they are. */
export type ImageConfig = z.infer<typeof config>;
export type ImageHistory = z.infer<typeof history>;

function describe(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return text.replace(/^\./, '').slice(0, 256) || 'document';
}

/** How one kind of document is read. */
interface Reader<T> {
  readonly kind: string;
  /** Fields of other documents: programs would disagree about the kind of a document that has them. */
  readonly foreign: readonly string[];
  readonly judge: (value: object, op: string, subject: string) => Examined<T>;
}

function judge<T>(schema: z.ZodType<T>, value: unknown, op: string, subject: string): Examined<T> {
  // Compiling a schema takes longer than checking the few documents that a process reads.
  const result = schema.safeParse(withoutNulls(value), { jitless: true });
  if (result.success) return { document: result.data, problems: [] };
  const other = result.error.issues.find(({ message }) => message === OTHER_DIGEST);
  if (other !== undefined) {
    throw new LacunaError('UNSUPPORTED', `${describe(other.path)}: ${OTHER_DIGEST}`, { op, subject });
  }
  const problems = result.error.issues.map(
    (issue) => new FormatError(describe(issue.path), issue.message, { op, subject }),
  );
  return { document: null, problems };
}

/**
 * The config: fields of the schema in its order, `config` and every other field as it is written. It is carried over into
 * other images, whose digests depend on the order.
 */
function judgeConfig(value: object, op: string, subject: string): Examined<ImageConfig> {
  const { document, problems } = judge(config, value, op, subject);
  if (document === null) return { document, problems };
  const names = Object.keys(config.shape);
  const read = names.filter((name) => Object.hasOwn(document, name));
  const fields = [
    ...read.map((name) => [name, name === 'config' ? value[name as keyof typeof value] : document[name]] as const),
    ...Object.entries(value).filter(([name]) => !names.includes(name)),
  ];
  return { document: Object.fromEntries(fields) as ImageConfig, problems };
}

const MANIFEST: Reader<Manifest> = {
  kind: 'manifest',
  foreign: ['manifests'],
  judge: (value, op, subject) => judge(manifest, value, op, subject),
};
const INDEX: Reader<Index> = {
  kind: 'index',
  foreign: ['layers', 'config'],
  judge: (value, op, subject) => judge(index, value, op, subject),
};
const ARTIFACT: Reader<{ readonly blobs: Descriptor[] }> = {
  kind: 'artifact manifest',
  foreign: ['layers', 'config', 'manifests'],
  judge: (value, op, subject) => judge(artifact, value, op, subject),
};
const CONFIG: Reader<ImageConfig> = { kind: 'config', foreign: [], judge: judgeConfig };

/** The document as an object, with what tells a manifest from an index checked (CVE-2021-41190). */
function parseDocument(bytes: Uint8Array, op: string, subject: string, foreign: readonly string[]): object {
  const value = parseRawJson(bytes, { op, subject, limit: MAX_MANIFEST_SIZE });
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FormatError('document', 'not a JSON object', { op, subject });
  }
  if (isSchema1(value)) throw schema1(op, subject);
  const found = foreign.find((field) => Object.hasOwn(value, field) && value[field as keyof typeof value] !== null);
  if (found !== undefined) throw new FormatError(found, 'must not be in this kind of document', { op, subject });
  return value;
}

/** Whether a document is a manifest of Docker's schema 1. */
export const isSchema1 = (fields: object): boolean =>
  ('schemaVersion' in fields && fields.schemaVersion === 1) ||
  ('mediaType' in fields && DOCKER_SCHEMA1.includes(String(fields.mediaType)));

/** The error of one. */
export const schema1 = (op: string, subject: string): LacunaError =>
  new LacunaError('UNSUPPORTED', `${subject}: Docker image manifests of schema 1 are not supported`, {
    op,
    subject,
    hint: 'pull the image with a recent engine and push it again',
  });

function parse<T>({ kind, foreign, judge }: Reader<T>) {
  return (bytes: Uint8Array, subject: string): T => {
    const op = `parse ${kind}`;
    const { document, problems } = judge(parseDocument(bytes, op, subject, foreign), op, subject);
    if (document !== null) return document;
    throw problems[0]!;
  };
}

/** An image manifest. Throws a FormatError that names the field. */
export const parseManifest = parse(MANIFEST);
/** An image index or Docker manifest list. Throws a FormatError that names the field. */
export const parseIndex = parse(INDEX);
/** The blobs of a manifest of type `MEDIA.ociArtifact`. Throws a FormatError that names the field. */
export const parseArtifact = parse(ARTIFACT);
/** An image config. Throws a FormatError that names the field. */
export const parseConfig = parse(CONFIG);

/** A document with all that is wrong with it, each naming its field; null when something is. */
export interface Examined<T> {
  readonly document: T | null;
  readonly problems: readonly FormatError[];
}

function examine<T>({ kind, foreign, judge }: Reader<T>) {
  return (bytes: Uint8Array, subject: string): Examined<T> => {
    const op = `parse ${kind}`;
    try {
      return judge(parseDocument(bytes, op, subject, foreign), op, subject);
    } catch (error) {
      if (error instanceof FormatError) return { document: null, problems: [error] };
      throw error;
    }
  };
}

/** As `parseManifest`, `parseIndex` and `parseConfig`, with every problem instead of the first one thrown. */
export const examineManifest = examine(MANIFEST);
export const examineIndex = examine(INDEX);
export const examineConfig = examine(CONFIG);

/** A descriptor from an already parsed JSON value, for readers of other documents that hold some. */
export function validateDescriptor(value: unknown, subject: string): Descriptor {
  const { document, problems } = judge(descriptor, value, 'parse descriptor', subject);
  if (document !== null) return document;
  throw problems[0]!;
}
