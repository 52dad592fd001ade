/**
 * Descriptors, manifests, indexes and image configs, validated. Docker's variants have the same shape.
 * Fields that this file does not name are dropped from descriptors, manifests and indexes, and kept in configs.
 */
import { z } from 'zod';
import { FormatError, LacunaError } from '../errors.ts';
import { isDigest } from './digest.ts';
import { parseJson } from './json.ts';
import { DOCKER_SCHEMA1, isIndex, isManifest } from './media.ts';

/** The largest manifest, index or config that is read. The distribution spec asks registries for 4 MiB. */
export const MAX_MANIFEST_SIZE = 8 * 1024 * 1024;

/** More layers than any engine mounts; overlayfs stops at 500. */
const MAX_LAYERS = 1024;
const MAX_INDEX_ENTRIES = 4096;

const mediaType = z
  .string()
  .max(255)
  .regex(/^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/, 'not a media type');
const digest = z.string().refine(isDigest, 'not a digest');
const size = z.int().min(0);
const annotations = z.record(z.string(), z.string());

const platform = z.object({
  os: z.string().max(64),
  architecture: z.string().max(64),
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
  layers: z.array(descriptor).max(MAX_LAYERS),
  subject: descriptor.exactOptional(),
  annotations: annotations.exactOptional(),
});

const index = z.object({
  schemaVersion: z.literal(2),
  mediaType: mediaType.refine(isIndex, 'not an index type').exactOptional(),
  artifactType: mediaType.exactOptional(),
  manifests: z.array(descriptor).max(MAX_INDEX_ENTRIES),
  subject: descriptor.exactOptional(),
  annotations: annotations.exactOptional(),
});

const history = z.looseObject({
  created: z.string().exactOptional(),
  created_by: z.string().exactOptional(),
  author: z.string().exactOptional(),
  comment: z.string().exactOptional(),
  empty_layer: z.boolean().exactOptional(),
});

// Go programs write null for an empty list or map, so null is an absent one.
const config = z.looseObject({
  os: z.string().max(64),
  architecture: z.string().max(64),
  variant: z.string().max(64).exactOptional(),
  created: z.string().nullable().exactOptional(),
  author: z.string().exactOptional(),
  config: z.looseObject({}).nullable().exactOptional(),
  rootfs: z.looseObject({ type: z.literal('layers'), diff_ids: z.array(digest).max(MAX_LAYERS) }),
  history: z.array(history).nullable().exactOptional(),
});

/** What identifies an object of a store: its type, digest and size in bytes. */
export type Descriptor = z.infer<typeof descriptor>;
export type Manifest = z.infer<typeof manifest>;
export type Index = z.infer<typeof index>;
/** An image config, every field of it; `config.config` holds Env, Cmd and so on as they are. */
export type ImageConfig = z.infer<typeof config>;
export type ImageHistory = z.infer<typeof history>;

function describe(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return text.replace(/^\./, '').slice(0, 256) || 'document';
}

function validate<T>(schema: z.ZodType<T>, value: unknown, op: string, subject: string): T {
  const { document, problems } = judge(schema, value, op, subject);
  if (document !== null) return document;
  throw problems[0]!;
}

function judge<T>(schema: z.ZodType<T>, value: unknown, op: string, subject: string): Examined<T> {
  // Compiling a schema takes longer than checking the few documents that a process reads.
  const result = schema.safeParse(value, { jitless: true });
  if (result.success) return { document: result.data, problems: [] };
  const problems = result.error.issues.map(
    (issue) => new FormatError(describe(issue.path), issue.message, { op, subject }),
  );
  return { document: null, problems };
}

/** The document as an object, with what tells a manifest from an index checked (CVE-2021-41190). */
function parseDocument(bytes: Uint8Array, op: string, subject: string, foreign: readonly string[]): object {
  const value = parseJson(bytes, { op, subject, limit: MAX_MANIFEST_SIZE });
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FormatError('document', 'not a JSON object', { op, subject });
  }
  if ('schemaVersion' in value && value.schemaVersion === 1) throw schema1(op, subject);
  if ('mediaType' in value && DOCKER_SCHEMA1.includes(String(value.mediaType))) throw schema1(op, subject);
  for (const field of foreign) {
    if (Object.hasOwn(value, field))
      throw new FormatError(field, 'does not belong into this document', { op, subject });
  }
  return value;
}

const schema1 = (op: string, subject: string): LacunaError =>
  new LacunaError('UNSUPPORTED', `${subject}: Docker image manifests of schema 1 are not supported`, {
    op,
    subject,
    hint: 'pull the image with a recent engine and push it again',
  });

/** An image manifest. Throws a FormatError that names the field. */
export const parseManifest = (bytes: Uint8Array, subject: string): Manifest =>
  validate(manifest, parseDocument(bytes, 'parse manifest', subject, ['manifests']), 'parse manifest', subject);

/** An image index or Docker manifest list. Throws a FormatError that names the field. */
export const parseIndex = (bytes: Uint8Array, subject: string): Index =>
  validate(index, parseDocument(bytes, 'parse index', subject, ['layers', 'config']), 'parse index', subject);

/** An image config. Throws a FormatError that names the field. */
export const parseConfig = (bytes: Uint8Array, subject: string): ImageConfig =>
  validate(config, parseDocument(bytes, 'parse config', subject, []), 'parse config', subject);

/** A document with all that is wrong with it, each naming its field; null when something is. */
export interface Examined<T> {
  readonly document: T | null;
  readonly problems: readonly FormatError[];
}

function examine<T>(schema: z.ZodType<T>, kind: string, foreign: readonly string[]) {
  return (bytes: Uint8Array, subject: string): Examined<T> => {
    const op = `parse ${kind}`;
    let value: object;
    try {
      value = parseDocument(bytes, op, subject, foreign);
    } catch (error) {
      if (error instanceof FormatError) return { document: null, problems: [error] };
      throw error;
    }
    return judge(schema, value, op, subject);
  };
}

/** As `parseManifest`, `parseIndex` and `parseConfig`, with every problem instead of the first one thrown. */
export const examineManifest = examine(manifest, 'manifest', ['manifests']);
export const examineIndex = examine(index, 'index', ['layers', 'config']);
export const examineConfig = examine(config, 'config', []);

/** A descriptor from an already parsed JSON value, for readers of other documents that hold some. */
export const validateDescriptor = (value: unknown, subject: string): Descriptor =>
  validate(descriptor, value, 'parse descriptor', subject);
