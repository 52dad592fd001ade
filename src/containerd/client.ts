/**
 * A client of containerd's own API: the few calls that putting an image into it needs, over one connection.
 * Messages are those of `proto/containerd`; what to do with them is decided in `pull.ts`.
 */
import { toLacunaError } from '../errors.ts';
import { type ContainerdApi, containerdApi } from '../grpc/containerd.ts';
import type { Plugin } from '../grpc/messages/introspection.gen.ts';
import type { Mount } from '../grpc/messages/types.gen.ts';
import type { Sent } from '../grpc/proto.ts';
import { type CallSettings, type UnixChannel, unixChannel } from '../grpc/unix.ts';
import type { Descriptor } from '../image/manifest.ts';
import { type ContentDescriptor, type Pieces, writeOrWait } from './content.ts';

/** How long the undoing of a failed pull may take. */
const CLEAN_UP_MILLISECONDS = 10_000;

type Labels = Readonly<Record<string, string>>;

export interface ContainerdOptions {
  readonly namespace: string;
  readonly signal?: AbortSignal;
}

export class Containerd implements Disposable {
  readonly #channel: UnixChannel<ContainerdApi>;
  readonly #namespace: string;
  readonly #signal: AbortSignal | undefined;
  /** Keeps everything that is made from now on from the garbage collector; empty: nothing does. */
  #lease = '';

  constructor(address: string, options: ContainerdOptions) {
    this.#channel = unixChannel(address, containerdApi());
    this.#namespace = options.namespace;
    this.#signal = options.signal;
  }

  /** Objects that this client makes belong to the lease until {@link endLease}. It expires after `seconds`. */
  async beginLease(id: string, seconds: number): Promise<void> {
    const expire = new Date(Date.now() + seconds * 1000).toISOString();
    await this.#call('Leases.Create', { id, labels: { 'containerd.io/gc.expire': expire } });
    this.#lease = id;
  }

  async endLease(): Promise<void> {
    const id = this.#lease;
    if (id === '') return;
    this.#lease = '';
    await this.#cleanUp('Leases.Delete', { id });
  }

  async plugins(filter: string): Promise<readonly Plugin[]> {
    const { plugins } = await this.#call('Introspection.Plugins', { filters: [filter] });
    return plugins;
  }

  async prepare(snapshotter: string, key: string, parent: string, labels: Labels): Promise<readonly Mount[]> {
    const request = { snapshotter, key, parent, labels };
    return (await this.#call('Snapshots.Prepare', request)).mounts;
  }

  async commit(snapshotter: string, name: string, key: string, labels: Labels): Promise<void> {
    await this.#call('Snapshots.Commit', { snapshotter, name, key, labels });
  }

  async removeSnapshot(snapshotter: string, key: string): Promise<void> {
    await this.#cleanUp('Snapshots.Remove', { snapshotter, key });
  }

  /** Unpacks a layer of the content store into `mounts`; resolves with the digest of its tar. */
  async apply(layer: Descriptor, mounts: readonly Mount[]): Promise<string> {
    const { mediaType, digest, size } = layer;
    const response = await this.#call('Diff.Apply', {
      diff: { mediaType, digest, size },
      mounts,
    });
    return response.applied?.digest ?? '';
  }

  async hasContent(digest: string): Promise<boolean> {
    try {
      await this.#call('Content.Info', { digest });
      return true;
    } catch (error) {
      if (toLacunaError(error).code === 'NOT_FOUND') return false;
      throw error;
    }
  }

  /** Adds labels to what is in the content store. */
  async labelContent(digest: string, labels: Labels): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    await this.#call('Content.Update', { info: { digest, labels }, updateMask: { paths } });
  }

  /**
   * Stores `pieces`, which are together what `descriptor` says; containerd verifies it. What is there gets the labels.
   * When another pull is storing the same, this one waits for it: `onOther` learns how far that is, in bytes.
   */
  async writeContent(
    descriptor: ContentDescriptor,
    pieces: Pieces,
    labels: Labels,
    onOther: (bytes: number) => void = () => {},
  ): Promise<void> {
    const link = { channel: this.#channel, metadata: this.#metadata(), signal: this.#signal };
    try {
      await writeOrWait(link, descriptor, pieces, labels, onOther);
    } catch (error) {
      if (toLacunaError(error).code !== 'ALREADY_EXISTS') throw error;
      if (Object.keys(labels).length > 0) await this.labelContent(descriptor.digest, labels);
    }
  }

  /** Makes the image's record, or points it at something else. */
  async putImage(name: string, target: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>): Promise<void> {
    const { mediaType, digest, size } = target;
    const image = { name, target: { mediaType, digest, size } };
    try {
      await this.#call('Images.Create', { image });
    } catch (error) {
      if (toLacunaError(error).code !== 'ALREADY_EXISTS') throw error;
      await this.#call('Images.Update', { image });
    }
  }

  close(): void {
    this.#channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #metadata(): Record<string, string> {
    const lease = this.#lease === '' ? {} : { 'containerd-lease': this.#lease };
    return { 'containerd-namespace': this.#namespace, ...lease };
  }

  #call<Method extends keyof ContainerdApi>(
    method: Method,
    request: Sent<ContainerdApi[Method]['request']>,
  ): Promise<ContainerdApi[Method]['response']> {
    const settings: CallSettings = {
      metadata: this.#metadata(),
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    };
    return this.#channel.call(method, request, settings);
  }

  /** Also when the work was aborted; but not for ever. */
  async #cleanUp<Method extends keyof ContainerdApi>(
    method: Method,
    request: Sent<ContainerdApi[Method]['request']>,
  ): Promise<void> {
    await this.#channel.call(method, request, { metadata: this.#metadata(), timeout: CLEAN_UP_MILLISECONDS });
  }
}
