/**
 * Puts an image into containerd: its manifest and config, its snapshots (lazy where they can be) and its record.
 * A container waits for this, so independent requests are made at the same time.
 */
import { randomUUID } from 'node:crypto';
import { callback, FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { digestOf } from '../image/digest.ts';
import { type Descriptor, type Manifest, parseConfig } from '../image/manifest.ts';
import { MEDIA } from '../image/media.ts';
import { hostPlatform } from '../image/platform.ts';
import { type DockerReference, parseReference } from '../image/reference.ts';
import { errorRow, silentLog } from '../observe/log.ts';
import { bootstrapLayerOf, type ChosenManifest, chooseManifest } from '../reader/select-manifest.ts';
import { openStore } from '../registry/open.ts';
import { type ImageInput, inputName } from '../registry/source.ts';
import type { ImageStore } from '../registry/store.ts';
import { sourceLabel } from '../snapshotter/labels.ts';
import type { Containerd } from './client.ts';
import type { SnapshotterLink } from './link.ts';
import { DEFAULT_SNAPSHOTTER, type PullOptions } from './options.ts';
import { listeningSocket } from './socket.ts';
import { chainIdsOf, unpack } from './unpack.ts';

/** Lifetime of a lease in seconds, which ends one that a killed pull left. */
const LEASE_SECONDS = 24 * 3600;

/** The result of {@link pull}. */
export interface PullResult {
  /** As containerd names it. */
  readonly image: string;
  /** Of the manifest, as the registry has it. */
  readonly digest: string;
  /** Chain ID of the snapshot that containers are made on, empty for an image without layers. */
  readonly snapshot: string;
  /** Number of layers of the image. */
  readonly layers: number;
  /** Number of layers whose data was not downloaded. */
  readonly lazyLayers: number;
  /** Why no layer is lazy; null when some are. */
  readonly notLazy: string | null;
  /** Bytes that were fetched: manifest, config, bootstrap, and the layers that are not lazy. */
  readonly bytes: number;
}

/** Pulls `image` (a `docker://` reference). The image's record comes last: without it nothing of a failed pull stays. */
export async function pull(image: ImageInput, options: PullOptions): Promise<PullResult> {
  const reference = registryReference(inputName(image));
  const address = await listeningSocket(options.containerd);
  const { signal, log = silentLog } = options;
  const abort = signal === undefined ? {} : { signal };
  await using store = await openStore(reference, options);
  const choosing = chooseManifest(store, options.platform ?? hostPlatform(), {
    ...abort,
    ...(options.referrers === undefined ? {} : { referrers: options.referrers }),
  });
  const config = choosing.then(({ manifest }) => store.manifest(manifest.config, abort));
  // Thrown below; they must not count as unhandled until then.
  for (const early of [choosing, config]) early.catch(() => {});
  // Loading gRPC takes as long as the registry's answer.
  const [{ Containerd }, { linkSnapshotter }] = await Promise.all([import('./client.ts'), import('./link.ts')]);
  using containerd = new Containerd(address, { namespace: options.namespace, ...abort });
  const [leased, linked, chosen] = await Promise.allSettled([
    containerd.beginLease(`lacuna-pull-${randomUUID()}`, LEASE_SECONDS),
    linkSnapshotter(containerd, { ...options, reference }),
    choosing,
  ]);
  const link = linked.status === 'fulfilled' ? linked.value : null;
  try {
    for (const outcome of [leased, linked]) if (outcome.status === 'rejected') throw outcome.reason;
    if (chosen.status === 'rejected') throw chosen.reason;
    return await pullInLease({ containerd, store, reference, link, choice: chosen.value, config, options });
  } catch (error) {
    throw aboutDigests(error, nameOf(reference));
  } finally {
    link?.close();
    await containerd.endLease().catch((error: unknown) => {
      log.debug({ error: errorRow(error) }, 'cannot delete the lease; it expires by itself');
    });
  }
}

interface PullContext {
  readonly containerd: Containerd;
  readonly store: ImageStore;
  readonly reference: DockerReference;
  readonly link: SnapshotterLink | null;
  readonly choice: ChosenManifest;
  /** Bytes of the image's config, which is on its way. */
  readonly config: Promise<Buffer>;
  readonly options: PullOptions;
}

async function pullInLease(request: PullContext): Promise<PullResult> {
  const { containerd, store, reference, link, choice, config, options } = request;
  const { snapshotter = DEFAULT_SNAPSHOTTER, signal } = options;
  const onProgress = callback(options.onProgress, 'onProgress');
  const abort = signal === undefined ? {} : { signal };
  const { manifest, descriptor } = choice;
  const image = nameOf(reference);
  const bootstrap = bootstrapLayerOf(manifest);
  const announced = link === null || bootstrap === null ? 0 : link.expect(image, bootstrap);

  // The snapshotter believes labels of an announced bootstrap.
  const [configBytes, fetched] = await Promise.all([config, announced]);
  const { diff_ids: diffIds } = parseConfig(configBytes, image).rootfs;
  const { layers } = manifest;
  if (layers.length !== diffIds.length) {
    throw new FormatError('rootfs.diff_ids', `${diffIds.length} diff IDs for ${layers.length} layers`, {
      subject: image,
    });
  }
  const snapshot = chainIdsOf(diffIds).at(-1) ?? '';
  const target = runnable(choice);
  const source = { [sourceLabel(reference.host)]: reference.repository };
  const writeManifest = (): Promise<void> =>
    containerd.writeContent(target, [target.bytes], { ...source, ...childLabels(manifest) });
  // Labels of a bootstrap that was not announced are believed only once containerd has the manifest.
  if (fetched === null) await writeManifest();
  const [{ lazyLayers, bytes }] = await Promise.all([
    unpack({
      ...{ containerd, store, snapshotter, image, layers, bootstrap, diffIds, onProgress, ...abort },
      manifestDigest: descriptor.digest,
      contentLabels: source,
    }),
    fetched === null ? null : writeManifest(),
    containerd.writeContent(manifest.config, [configBytes], {
      ...source,
      ...(snapshot === '' ? {} : { [`containerd.io/gc.ref.snapshot.${snapshotter}`]: snapshot }),
    }),
  ]);
  await containerd.putImage(image, target);
  const total = choice.bytes.length + configBytes.length + bytes + (fetched ?? 0);
  const notLazy = lazyLayers > 0 ? null : whyNotLazy(bootstrap !== null, link !== null, snapshotter);
  return { image, digest: descriptor.digest, snapshot, layers: layers.length, lazyLayers, notLazy, bytes: total };
}

function whyNotLazy(isLazyImage: boolean, isOurs: boolean, snapshotter: string): string {
  if (!isLazyImage) return 'an ordinary image; `lacuna convert` makes it lazy';
  if (!isOurs) return `the snapshotter ${snapshotter} is not Lacuna's`;
  return `the snapshotter ${snapshotter} could not fetch the bootstrap; see its log`;
}

/**
 * Until 2026 containerd's content store named everything by its sha256, and its unpacking still does: a sound image with
 * other digests is not damaged then, but more than that containerd can keep.
 */
function aboutDigests(error: unknown, image: string): unknown {
  const { code, op, message } = toLacunaError(error);
  const isRefusal = code === 'PRECONDITION' || (code === 'DIGEST_MISMATCH' && op === 'unpack');
  if (!isRefusal || !message.includes('sha512:')) return error;
  return new LacunaError('UNSUPPORTED', `containerd cannot store an image with sha512 digests: ${message}`, {
    op: 'pull',
    subject: image,
    hint: 'convert it: `lacuna convert` writes sha256 digests throughout',
    cause: error,
  });
}

interface Target extends Pick<Descriptor, 'mediaType' | 'digest' | 'size'> {
  readonly bytes: Buffer;
}

/**
 * The manifest that the image's record points at. containerd refuses to make a container from a config of Nydus's own
 * type, which nydusify writes; such a manifest is stored with OCI's type instead, and so under another digest. Never an
 * index: containerd would take the first manifest for its platform, which may be the one that is not lazy.
 */
export function runnable({ manifest, descriptor, bytes }: ChosenManifest): Target {
  const { mediaType } = descriptor;
  if (manifest.config.mediaType !== MEDIA.nydusConfig) {
    return { mediaType, digest: descriptor.digest, size: bytes.length, bytes };
  }
  const document = JSON.parse(bytes.toString('utf8')) as { config: { mediaType: string } };
  document.config.mediaType = MEDIA.ociConfig;
  const retyped = Buffer.from(JSON.stringify(document));
  return { mediaType, digest: digestOf(retyped), size: retyped.length, bytes: retyped };
}

/** For containerd's garbage collector: what a manifest keeps alive. */
function childLabels(manifest: Manifest): Record<string, string> {
  const layers = manifest.layers.map(({ digest }, at) => [`containerd.io/gc.ref.content.l.${at}`, digest]);
  return { 'containerd.io/gc.ref.content.config': manifest.config.digest, ...Object.fromEntries(layers) };
}

function registryReference(image: string): DockerReference {
  const reference = parseReference(image);
  if (reference.transport === 'docker') return reference;
  throw new LacunaError('UNSUPPORTED', 'only images of a registry can be pulled', { op: 'pull', subject: image });
}

function nameOf({ host, repository, tag, digest }: DockerReference): string {
  return `${host}/${repository}${tag === null ? '' : `:${tag}`}${digest === null ? '' : `@${digest}`}`;
}
