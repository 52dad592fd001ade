/** Options of a conversion, and the defaults with their reasons. */

import { callback, LacunaError } from '../errors.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import { type Log, silentLog } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { StoreOptions } from '../registry/store.ts';
import { type ByteString, fromText } from '../tree/node.ts';

/**
 * A cold start reads some 230 scattered places of an image; smaller chunks carry fewer unneeded bytes,
 * larger ones compress a little better. With 128 KiB a Python start needs 12 MB instead of 14 MB at 1 MiB, and the
 * whole image grows by a tenth.
 */
export const DEFAULT_CHUNK_SIZE = 128 * 1024;

/** RAFS v6 allows powers of two from 4 KiB to 16 MiB. */
const MIN_CHUNK_SIZE = 4 * 1024;
const MAX_CHUNK_SIZE = 16 * 1024 * 1024;

/** zstd's own default: twice as fast as level 6 for 3 % more bytes. */
export const DEFAULT_LEVEL = 3;

/** `merge`: each layer's blob is whole. `image`: chunks that a lower layer has are left out of the upper blobs. */
export type Dedup = 'merge' | 'image';

/** How chunks are compressed. */
export type CompressorName = keyof typeof COMPRESSORS;
/** How chunks are named. */
export type DigesterName = keyof typeof DIGESTERS;

export const COMPRESSORS = { none: 0, lz4: 1, zstd: 3 } as const satisfies Record<string, Compressor>;
export const DIGESTERS = { blake3: 0, sha256: 1 } as const satisfies Record<string, Digester>;

/**
 * `one`: a blob holds chunk data, chunk info, digests and a table of contents. `separate`: it holds chunk data alone, and
 * its chunk info is a second, small blob (Nydus calls it SEPARATE), which the bootstrap layer carries as well.
 */
export type BlobForm = 'one' | 'separate';

/** Where a device begins in the flat address space of all devices, in bytes; as Nydus has it. */
export const DEFAULT_ALIGN = 512 * 1024;
const MIN_ALIGN = 4 * 1024;
const MAX_ALIGN = 1024 * 1024 * 1024;

/**
 * The form of the target. `lazy`: the lazy image alone. `index`: one index with the original manifests, each in
 * front of its lazy one, so that nodes without Lacuna pull what they always pulled. `referrer`: the original image, and
 * lazy manifests that point at it by their subject.
 */
export type TargetForm = 'lazy' | 'index' | 'referrer';

/** The options that, with the layer, decide the bytes of a blob. */
export interface LayerOptions {
  /** Bytes per chunk, a power of two. */
  readonly chunkSize: number;
  readonly compressor: Compressor;
  readonly level: number;
  readonly digester: Digester;
  /** Bytes up to which small files are compressed together; 0 = every file alone. */
  readonly batchSize: number;
  readonly form: BlobForm;
}

/** Options of {@link convert}. */
export interface ConvertOptions {
  /** `os/arch[/variant]`; of an index all platforms are converted when none is given. */
  readonly platforms?: readonly string[];
  /** Largest chunk in bytes, a power of two. Default {@link DEFAULT_CHUNK_SIZE}. */
  readonly chunkSize?: number;
  /** Default zstd. */
  readonly compressor?: CompressorName;
  /** Of zstd, 1 to 19. */
  readonly level?: number;
  /** Default blake3. */
  readonly digester?: DigesterName;
  /**
   * Files of one chunk and less than half of this are compressed together until they are this long: fewer requests for
   * many small files, more bytes for a single one. Bytes, a power of two; 0 (the default) = off.
   */
  readonly batchSize?: number;
  /** Default `one`. */
  readonly blob?: BlobForm;
  /** Bytes, a power of two: where each blob's device begins in the flat address space. Default {@link DEFAULT_ALIGN}. */
  readonly align?: number;
  /** Paths that a reader fetches first, in this order; `/` = everything. Those that do not exist are passed over. */
  readonly prefetch?: readonly string[];
  /**
   * The original gzip layers stay the data: only an index into them is made, nothing is copied (Nydus's zran). UNSUPPORTED
   * for an image with a layer of another compression. The content of a layer with sparse files is stored all the same.
   */
  readonly ociRef?: boolean;
  /** Which equal chunks are stored only once. Default `merge`. */
  readonly dedup?: Dedup;
  /**
   * Dictionaries of chunks to reuse instead of storing them again: lazy images (`docker://…`, `oci:…`, `rafs:…`), or
   * `sqlite:FILE`, a database to which every image is added after it was pushed. The first one that has a chunk is used.
   */
  readonly dicts?: readonly string[];
  /** Default `lazy`. */
  readonly as?: TargetForm;
  /** Convert again what an earlier conversion with the same options left in the target. Default false. */
  readonly force?: boolean;
  /**
   * Leave records in the target, under a tag of its repository or in a folder of its layout, by which a later conversion
   * skips unchanged layers and images. Default true.
   */
  readonly records?: boolean;
  /** How the registry of the source is reached. */
  readonly source?: StoreOptions;
  /** How the registry of the target is reached. */
  readonly target?: StoreOptions;
  /** Gets warnings. Default: nothing is logged. */
  readonly log?: Log;
  /** Called with the progress of every layer. */
  readonly onProgress?: OnProgress;
  /** Aborts the conversion; the target's tag is unchanged. */
  readonly signal?: AbortSignal;
}

/** {@link ConvertOptions} with everything decided. */
export interface ConvertPlan {
  readonly layer: LayerOptions;
  /** Byte strings. */
  readonly prefetch: readonly ByteString[];
  readonly align: number;
  readonly ociRef: boolean;
  readonly dedup: Dedup;
  readonly as: TargetForm;
  readonly force: boolean;
  readonly records: boolean;
  readonly log: Log;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** Checks the options and fills in the defaults. */
export function planOf(options: ConvertOptions): ConvertPlan {
  const batchSize = options.batchSize ?? 0;
  const layer: LayerOptions = {
    chunkSize: chunkSizeOf('chunk size', options.chunkSize ?? DEFAULT_CHUNK_SIZE),
    compressor: numberOf(COMPRESSORS, options.compressor ?? 'zstd', 'compressor'),
    level: levelOf(options),
    digester: numberOf(DIGESTERS, options.digester ?? 'blake3', 'digester'),
    batchSize: batchSize === 0 ? 0 : chunkSizeOf('batch size', batchSize),
    form: oneOf(['one', 'separate'], options.blob ?? 'one', 'blob form'),
  };
  const plan = {
    layer,
    prefetch: (options.prefetch ?? []).map(fromText),
    align: powerOfTwo('alignment', options.align ?? DEFAULT_ALIGN, MIN_ALIGN, MAX_ALIGN, '4 KiB to 1 GiB'),
    ociRef: options.ociRef ?? false,
    dedup: oneOf(['merge', 'image'], options.dedup ?? 'merge', 'dedup'),
    as: oneOf(['lazy', 'index', 'referrer'], options.as ?? 'lazy', 'form of the target'),
    force: options.force ?? false,
    records: options.records ?? true,
    log: options.log ?? silentLog,
    onProgress: callback(options.onProgress, 'onProgress'),
    signal: options.signal ?? new AbortController().signal,
  };
  return plan.ociRef ? referring(plan, options) : plan;
}

/** The blob table's number for a layer's own compression. */
const GZIP: Compressor = 2;

/** Layers by reference keep their bytes, so options about bytes are refused; their chunks have SHA-256 digests. */
function referring(plan: ConvertPlan, options: ConvertOptions): ConvertPlan {
  const chosen = (['dicts', 'compressor', 'level', 'digester', 'batchSize', 'blob', 'dedup'] as const).filter(
    (name) => options[name] !== undefined,
  );
  if (chosen.length > 0)
    throw usage(`${chosen.join(', ')}: cannot be combined with layers by reference, which stay as they are`);
  return { ...plan, layer: { ...plan.layer, compressor: GZIP, digester: DIGESTERS.sha256 } };
}

/** The options for a layer whose content is stored: of an image that refers to its layers, one that it cannot refer to. */
export const storedOptions = ({ layer, ociRef }: ConvertPlan): LayerOptions =>
  ociRef ? { ...layer, compressor: COMPRESSORS.zstd } : layer;

function levelOf({ level, compressor }: ConvertOptions): number {
  if (level === undefined) return DEFAULT_LEVEL;
  if (compressor !== undefined && compressor !== 'zstd')
    throw usage(`a compression level needs zstd, not ${compressor}`);
  if (!Number.isInteger(level) || level < 1 || level > 19) throw usage(`zstd level ${level} is not from 1 to 19`);
  return level;
}

function numberOf<K extends string, N>(table: Readonly<Record<K, N>>, name: K, what: string): N {
  return table[oneOf(Object.keys(table) as K[], name, what)];
}

function oneOf<T extends string>(names: readonly T[], name: T, what: string): T {
  if (names.includes(name)) return name;
  throw usage(`${what} ${JSON.stringify(name)} must be one of ${names.join(', ')}`);
}

const chunkSizeOf = (what: string, value: number): number =>
  powerOfTwo(what, value, MIN_CHUNK_SIZE, MAX_CHUNK_SIZE, '4 KiB to 16 MiB');

function powerOfTwo(what: string, value: number, min: number, max: number, range: string): number {
  const isPower = Number.isSafeInteger(value) && Number.isInteger(Math.log2(value));
  if (isPower && value >= min && value <= max) return value;
  throw usage(`${what} ${value} is not a power of two from ${range}`, 'for example --chunk-size 128KiB');
}

const usage = (problem: string, hint?: string): LacunaError =>
  new LacunaError('USAGE', problem, { op: 'convert', ...(hint === undefined ? {} : { hint }) });
