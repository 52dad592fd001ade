/**
 * From layers to a snapshot: lazy layers are only named, all others are downloaded into containerd's content store
 * and unpacked by it, one layer on the other, while the next ones are already on their way.
 */
import { randomBytes } from 'node:crypto';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { ImageStore } from '../registry/store.ts';
import { chainIdOf, LABEL } from '../snapshotter/labels.ts';
import type { Containerd } from './client.ts';

/** containerd's own default for layers that are downloaded at once. */
const DOWNLOADS = 3;

/** containerd refuses labels whose key and value are longer together. */
const MAX_LABEL_BYTES = 4096;

export interface UnpackRequest {
  readonly containerd: Containerd;
  readonly store: ImageStore;
  readonly snapshotter: string;
  /** As containerd names the image. */
  readonly image: string;
  /** As the registry has it. */
  readonly manifestDigest: string;
  readonly layers: readonly Descriptor[];
  /** One of `layers`, when the image is lazy. */
  readonly bootstrap: Descriptor | null;
  readonly diffIds: readonly string[];
  /** For everything that is written to the content store. */
  readonly contentLabels: Readonly<Record<string, string>>;
  readonly onProgress: OnProgress;
  readonly signal?: AbortSignal;
}

export interface Unpacked {
  /** Layers that were not downloaded because they are lazy. */
  readonly lazyLayers: number;
  /** Bytes of layers that were downloaded by this call. */
  readonly bytes: number;
}

/** Not all converters mark data layers by media type and annotation both. */
const isBlob = (layer: Descriptor): boolean =>
  layer.mediaType === MEDIA.nydusBlob || layer.annotations?.[ANNOTATION.nydusBlob] === 'true';

const isLazy = (request: UnpackRequest, layer: Descriptor): boolean => isBlob(layer) || layer === request.bootstrap;

/** The chain ID of each layer, lowest first. */
export function chainIdsOf(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) chain.push(chainIdOf(chain.at(-1) ?? null, diffId));
  return chain;
}

export async function unpack(request: UnpackRequest): Promise<Unpacked> {
  const { containerd, snapshotter, layers } = request;
  const chain = chainIdsOf(request.diffIds);
  const downloads = new Downloads(request);
  let lazyLayers = 0;
  for (const [at, layer] of layers.entries()) {
    const chainId = chain[at]!;
    const parent = chain[at - 1] ?? '';
    const labels = labelsOf(request, at, chainId);
    const key = `extract-${process.hrtime.bigint()}-${randomBytes(3).toString('hex')} ${chainId}`;
    let mounts: Awaited<ReturnType<Containerd['prepare']>>;
    try {
      mounts = await containerd.prepare(snapshotter, key, parent, labels);
    } catch (error) {
      // Lazy, or unpacked before.
      if (toLacunaError(error).code !== 'ALREADY_EXISTS') throw error;
      if (isLazy(request, layer)) lazyLayers++;
      continue;
    }
    try {
      await downloads.of(at);
      const diffId = await containerd.apply(layer, mounts);
      if (diffId !== request.diffIds[at]) throw wrongDiffId(layer, diffId, request.diffIds[at]!);
      await containerd.commit(snapshotter, chainId, key, labels);
    } catch (error) {
      await containerd.removeSnapshot(snapshotter, key).catch(() => {
        // The first error tells; the lease's end takes away what is left.
      });
      if (toLacunaError(error).code !== 'ALREADY_EXISTS') throw error;
    }
  }
  return { lazyLayers, bytes: downloads.bytes };
}

/** The labels that CRI, the transfer service and nerdctl set for a layer. */
function labelsOf(request: UnpackRequest, at: number, chainId: string): Record<string, string> {
  const layer = request.layers[at]!;
  const annotations = Object.entries(layer.annotations ?? {}).filter(([key, value]) => {
    return key.startsWith('containerd.io/snapshot/') && Buffer.byteLength(key + value) <= MAX_LABEL_BYTES;
  });
  const labels: Record<string, string> = {
    ...Object.fromEntries(annotations),
    [LABEL.ref]: chainId,
    [LABEL.imageRef]: request.image,
    [LABEL.manifestDigest]: request.manifestDigest,
    [LABEL.layerDigest]: layer.digest,
  };
  if (isBlob(layer)) labels[LABEL.blob] = 'true';
  if (layer === request.bootstrap) labels[LABEL.bootstrap] = 'true';
  let layers = layer.digest;
  for (const { digest } of request.layers.slice(at + 1)) {
    if (LABEL.imageLayers.length + layers.length + 1 + digest.length > MAX_LABEL_BYTES) break;
    layers += `,${digest}`;
  }
  labels[LABEL.imageLayers] = layers;
  return labels;
}

/** Starts with the first layer that has to be unpacked, and goes on with those above it. */
class Downloads {
  /** Bytes that were downloaded. */
  bytes = 0;
  readonly #request: UnpackRequest;
  readonly #running = new Map<number, Promise<void>>();

  constructor(request: UnpackRequest) {
    this.#request = request;
  }

  async of(at: number): Promise<void> {
    const { layers } = this.#request;
    const ahead = layers.slice(at, at + DOWNLOADS).filter((layer, i) => i === 0 || !isLazy(this.#request, layer));
    for (const layer of ahead) this.#start(layers.indexOf(layer));
    await this.#running.get(at);
  }

  #start(at: number): void {
    if (this.#running.has(at)) return;
    const download = this.#download(this.#request.layers[at]!);
    // Thrown when its turn comes; an earlier layer may fail before.
    download.catch(() => {});
    this.#running.set(at, download);
  }

  async #download(layer: Descriptor): Promise<void> {
    const { containerd, store, contentLabels, onProgress, signal } = this.#request;
    if (await containerd.hasContent(layer.digest)) return;
    const subject = layer.digest.slice(7, 19);
    let done = 0;
    const count = (piece: Buffer) => {
      done += piece.length;
      this.bytes += piece.length;
      onProgress({ phase: 'download', subject, done, total: layer.size, unit: 'bytes' });
    };
    async function* counted(): AsyncGenerator<Buffer> {
      for await (const piece of store.open(layer, signal === undefined ? {} : { signal })) {
        count(piece);
        yield piece;
      }
    }
    const other = (stored: number) =>
      onProgress({ phase: 'wait', subject, done: stored, total: layer.size, unit: 'bytes' });
    await containerd.writeContent(layer, counted(), contentLabels, other);
  }
}

function wrongDiffId(layer: Descriptor, actual: string, expected: string): LacunaError {
  return new LacunaError(
    'DIGEST_MISMATCH',
    `the unpacked layer hashes to ${actual}, the image's config says ${expected}`,
    {
      op: 'unpack',
      subject: layer.digest,
    },
  );
}
