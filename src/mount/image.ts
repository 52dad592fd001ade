/**
 * `lacuna mount`: one image on one directory. With the kernel's EROFS it is served by the daemon of a root that this
 * process keeps alive meanwhile; each has a folder `<root>/mounts/<id>/`, and what a killed one left there is taken away
 * by the next. Where there is no EROFS this process serves it itself, through fuse-native.
 */
import { realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { metaFiles, metaFilesOf, metasBeside, sizedMeta } from '../cache/metas-beside.ts';
import type { SetCredentialsRequest, Source } from '../daemon/api.ts';
import type { DaemonClient } from '../daemon/client.ts';
import { DEFAULT_ROOT } from '../daemon/root.ts';
import { type Supervisor, superviseDaemon } from '../daemon/supervise.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference } from '../image/reference.ts';
import { findAddon } from '../native/addon.ts';
import { codec } from '../native/codec.ts';
import { type Log, type LogFormat, type LogLevel, silentLog } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';
import { readBootstrapLayer } from '../reader/bootstrap.ts';
import { openImage } from '../reader/open.ts';
import { readRafsFile } from '../reader/rafs-files.ts';
import { bootstrapLayerOf, chooseManifest } from '../reader/select-manifest.ts';
import { openStore } from '../registry/open.ts';
import { type ImageInput, inputName } from '../registry/source.ts';
import type { StoreOptions } from '../registry/store.ts';
import { type MountDriver, mountErofs, unmount, untilUnmounted } from './erofs.ts';
import { ERRNO, errnoOf } from './errno.ts';
import { serveFuse } from './fuse-native/serve.ts';
import { abandonedPlaces, claimPlace, type MountPlace, refuseMounted } from './mount-place.ts';

/** How an image is served: by the kernel's EROFS over the daemon's devices, or by this process. */
export type ImageDriver = MountDriver | 'fuse-native';

/** Options of {@link mount}. */
export interface MountImageOptions {
  /**
   * Default: EROFS as this kernel takes it, and `fuse-native` with a warning where it has none, or where there is no addon
   * or no root to mount with.
   */
  readonly driver?: ImageDriver;
  /** Whether setuid programs of the image work. Default false: every user who can reach the directory could run them. */
  readonly suid?: boolean;
  /** Whether device nodes of the image work. Default false. */
  readonly dev?: boolean;
  /** Where cache, sockets and the bootstrap lie; default {@link DEFAULT_ROOT}. */
  readonly root?: string;
  /** `os/architecture[/variant]`; default: this machine's, on Linux. */
  readonly platform?: string;
  /** Whether a lazy image that refers to this one is used; default: unless the reference names a digest. */
  readonly referrers?: boolean;
  /** How a registry is reached to find the image. The daemon looks for stored logins by itself. */
  readonly store?: StoreOptions;
  /** Whether the login that `store.credentials` return is passed to the daemon, which keeps it in memory. Default false. */
  readonly isLoginShared?: boolean;
  /** Path of the PEM file that `store.ca` came from: the daemon reads it too. */
  readonly caFile?: string;
  /** Configuration file for a daemon that is started now. */
  readonly config?: string;
  /** How that daemon logs; a level wins over the configuration's. */
  readonly logLevel?: LogLevel;
  /** Format of that daemon's log lines. */
  readonly logFormat?: LogFormat;
  /** Gets warnings. Default: nothing is logged. */
  readonly log?: Log;
  /** Progress of fetching the bootstrap. */
  readonly onProgress?: OnProgress;
  /** Aborts the mounting; a mount that is there already stays. */
  readonly signal?: AbortSignal;
}

/** A mounted image. Disposing of it unmounts it. */
export interface MountedImage extends AsyncDisposable {
  /** The directory without links. */
  readonly target: string;
  /** The driver that serves the image. */
  readonly driver: ImageDriver;
  /** Resolves when somebody unmounted it; rejects with an AbortError. */
  untilUnmounted(signal: AbortSignal): Promise<void>;
  /** Unmounts, unless somebody did, and forgets the image; the daemon lives on. PRECONDITION while it is in use. */
  close(): Promise<void>;
}

/** Mounts a lazy image read-only on an existing directory. USAGE when something is mounted there or the image is not lazy. */
export async function mountImage(
  image: ImageInput,
  directory: string,
  options: MountImageOptions = {},
): Promise<MountedImage> {
  // The process that serves it opens it by itself, so of a store its name counts.
  const reference = inputName(image);
  const root = resolve(options.root ?? DEFAULT_ROOT);
  const target = await realpath(directory).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'mount', subject: directory });
  });
  await refuseMounted(target);
  const { driver } = options;
  if (driver === 'fuse-native') return await mountFuse(reference, target, options);
  if (driver !== undefined) return await mountOnDaemon(reference, root, target, driver, options);
  const lack = lackOfErofs();
  if (lack !== null) return await mountInstead(lack, reference, target, options);
  try {
    return await mountOnDaemon(reference, root, target, undefined, options);
  } catch (error) {
    if (errnoOf(error) !== ERRNO.ENODEV) throw error;
    return await mountInstead('this kernel has no EROFS', reference, target, options);
  }
}

/** The reason why EROFS cannot work; null when it may. */
function lackOfErofs(): string | null {
  if (findAddon() === null) return 'the native addon is not available';
  return process.getuid?.() === 0 ? null : 'only root can mount EROFS';
}

async function mountInstead(
  why: string,
  reference: string,
  target: string,
  options: MountImageOptions,
): Promise<MountedImage> {
  const log = options.log ?? silentLog;
  log.warn({ target, why }, 'mounting through fuse-native: reads are several times slower, and end with this process');
  return await mountFuse(reference, target, options);
}

async function mountFuse(reference: string, target: string, options: MountImageOptions): Promise<MountedImage> {
  const { platform, store, onProgress, signal, log, suid = false, dev = false } = options;
  const image = await openImage(reference, {
    ...(platform === undefined ? {} : { platform }),
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(store === undefined ? {} : { store }),
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    if (image.rafs === null) throw notLazy(reference);
    const mount = await serveFuse(image, target, { suid, dev, ...(log === undefined ? {} : { log }) });
    const close = async (): Promise<void> => {
      await mount.close();
      await image.close();
    };
    return {
      target,
      driver: 'fuse-native',
      untilUnmounted: (until) => untilUnmounted(target, until),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await image.close();
    throw error;
  }
}

async function mountOnDaemon(
  reference: string,
  root: string,
  target: string,
  driver: MountDriver | undefined,
  options: MountImageOptions,
): Promise<MountedImage> {
  const found = await findImage(reference, options);
  const { source } = found;
  const login = options.isLoginShared === true && 'registry' in source ? await loginOf(source.registry, options) : null;
  const supervisor = await superviseDaemon(root, {
    log: options.log ?? silentLog,
    ...(options.config === undefined ? {} : { config: resolve(options.config) }),
    ...(options.logLevel === undefined ? {} : { logLevel: options.logLevel }),
    ...(options.logFormat === undefined ? {} : { logFormat: options.logFormat }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  try {
    if (login !== null) await supervisor.client.setCredentials(login);
    await forgetUnmounted(root, supervisor.client);
    const { suid = false, dev = false } = options;
    return await mountAttached({ ...found, root, target, driver, suid, dev }, supervisor);
  } catch (error) {
    await supervisor.close();
    throw error;
  }
}

async function loginOf(
  { host, repository }: { readonly host: string; readonly repository: string },
  { store }: MountImageOptions,
): Promise<SetCredentialsRequest | null> {
  const credentials = (await store?.credentials?.(host, repository)) ?? null;
  return credentials === null ? null : { host, ...credentials };
}

const notLazy = (reference: string): LacunaError =>
  new LacunaError('USAGE', 'not a lazy image: the manifest has no bootstrap layer', {
    op: 'mount',
    subject: reference,
    hint: 'convert it first: `lacuna convert SOURCE TARGET`',
  });

const NEVER = new AbortController().signal;

interface Found {
  readonly bootstrap: Buffer;
  /** Chunk info that came with it, by file name. */
  readonly metas: ReadonlyMap<string, Buffer>;
  /** Hex id of the blob that the bootstrap was taken out of; null when it names its blobs itself. */
  readonly blobId: string | null;
  readonly source: Source;
}

async function findImage(reference: string, options: MountImageOptions): Promise<Found> {
  const parsed = parseReference(reference);
  if (parsed.transport === 'rafs') {
    const path = resolve(parsed.blobs ?? dirname(parsed.bootstrap));
    const { bootstrap, metas, blobId } = await readRafsFile(parsed.bootstrap, codec(), options.signal ?? NEVER);
    const beside = metasBeside(path);
    const kept = async (name: string, size: number) => sizedMeta(metas, name, size) ?? (await beside(name, size));
    const naming = { subject: parsed.bootstrap, ...(blobId === null ? {} : { blobId }) };
    return { bootstrap, metas: await metaFiles(bootstrap, kept, naming), blobId, source: { directory: { path } } };
  }
  await using store = await openStore(parsed, options.store);
  const { signal, onProgress } = options;
  const reading = { ...(signal === undefined ? {} : { signal }), ...(onProgress === undefined ? {} : { onProgress }) };
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const { manifest } = await chooseManifest(store, platform, options);
  const layer = bootstrapLayerOf(manifest);
  if (layer === null) throw notLazy(reference);
  const read = await readBootstrapLayer(store, layer, reading);
  const image = { bootstrap: read.bootstrap, metas: await metaFilesOf(read, layer.digest), blobId: null };
  if (parsed.transport === 'oci') return { ...image, source: { layout: { path: resolve(parsed.path) } } };
  if (parsed.transport === 'dir') return { ...image, source: { directory: { path: resolve(parsed.path) } } };
  if (parsed.transport !== 'docker') {
    throw new LacunaError('UNSUPPORTED', 'an archive cannot be mounted', {
      op: 'mount',
      subject: reference,
      hint: 'unpack the archive itself with tar and mount the oci: directory',
    });
  }
  const { host, repository } = parsed;
  const plainHttp = options.store?.plainHttp ?? null;
  const ca = options.caFile === undefined ? '' : resolve(options.caFile);
  return { ...image, source: { registry: { host, repository, plainHttp, ca } } };
}

interface Wanted extends Found {
  readonly root: string;
  readonly target: string;
  readonly driver: MountDriver | undefined;
  readonly suid: boolean;
  readonly dev: boolean;
}

async function mountAttached(request: Wanted, supervisor: Supervisor): Promise<MountedImage> {
  const { root, target, bootstrap, metas, blobId, source, suid, dev } = request;
  const { client } = supervisor;
  const place = await claimPlace(root, target);
  try {
    await forgetAttached(client, place.id);
    const path = await place.write(target, bootstrap, metas);
    const { devices } = await client.attach({
      id: place.id,
      bootstrap: path,
      sources: [source],
      blobIds: blobId === null ? [] : [blobId],
    });
    const how = { suid, dev, ...(request.driver === undefined ? {} : { driver: request.driver }) };
    const { driver } = await mountErofs({ bootstrap: path, devices, target }, how);
    const close = async (): Promise<void> => {
      await unmount(target);
      await forgetImage(client, place);
      await supervisor.close();
    };
    return {
      target,
      driver,
      untilUnmounted: (signal) => untilUnmounted(target, signal),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await forgetImage(client, place);
    throw error;
  }
}

/** Detaches what earlier processes attached and nobody has mounted any more. */
async function forgetUnmounted(root: string, client: DaemonClient): Promise<void> {
  for await (const place of abandonedPlaces(root)) await forgetImage(client, place);
}

async function forgetImage(client: DaemonClient, place: MountPlace): Promise<void> {
  try {
    await forgetAttached(client, place.id);
    await place.remove();
  } finally {
    place.release();
  }
}

async function forgetAttached(client: DaemonClient, id: string): Promise<void> {
  try {
    await client.detach(id);
  } catch (error) {
    // It was never attached, or has been detached.
    if (toLacunaError(error).code !== 'NOT_FOUND') throw error;
  }
}
