/**
 * Checks that a lazy image was pulled from the repository that its labels name. containerd passes annotations of a layer on
 * as labels, so the author of the manifest can set every label that containerd does not set itself. Labels are therefore
 * trusted only when containerd recorded that it fetched the manifest from that repository for its client, or when
 * `lacuna pull` announced the layer on our own socket.
 */

import { NAME_SOCKET } from '../doctor/pid-namespace.ts';
import { LacunaError } from '../errors.ts';
import { askContent, type Caller, listeningSockets } from './caller.ts';
import type { ImageSource, Labels } from './info.ts';
import { type LazyLayer, PULL_HINT, sourceLabel } from './labels.ts';

/** Maximum announcements that are remembered; the oldest is dropped first. */
export const MAX_ANNOUNCED = 1024;

export class Pulls {
  readonly #configured: string;
  /** The socket of a caller's content store, as found last. */
  #found = '';
  readonly #announced = new Set<string>();

  /** `socket`: containerd's socket; empty: that of the calling process. */
  constructor(socket: string) {
    this.#configured = socket;
  }

  /** Records that a client of our own socket, which only root can use, pulls this layer from `source`. */
  announce(source: ImageSource, digest: string): void {
    const key = keyOf(source, digest);
    // A repeated announcement becomes the newest one.
    this.#announced.delete(key);
    this.#announced.add(key);
    if (this.#announced.size > MAX_ANNOUNCED) this.#announced.delete(this.#announced.values().next().value!);
  }

  /**
   * FORBIDDEN when the calling containerd did not pull the layer's manifest from `source`. A caller that is not containerd
   * sets the labels itself and is trusted.
   */
  async assertPulled(layer: LazyLayer, source: ImageSource, caller: Caller): Promise<void> {
    if (this.#announced.has(keyOf(source, layer.digest))) return;
    const labels = layer.manifestDigest === '' ? null : await this.#recorded(layer, caller);
    if (labels === undefined) return;
    const repositories = (labels?.[sourceLabel(source.host)] ?? '').split(',');
    if (!repositories.includes(source.repository)) throw notPulled(layer, source);
  }

  /** Labels of the manifest in containerd's content store; null when it is not there, undefined without a containerd. */
  async #recorded({ manifestDigest }: LazyLayer, { pid, namespace }: Caller): Promise<Labels | null | undefined> {
    if (this.#configured !== '') {
      return (await askContent([this.#configured], namespace, manifestDigest))?.labels ?? null;
    }
    if (pid === 0) throw unseen();
    const sockets = await listeningSockets(pid);
    const likely = sockets.includes(this.#found) ? [this.#found] : sockets;
    const answer = await askContent(likely, namespace, manifestDigest);
    this.#found = answer?.socket ?? '';
    return answer?.labels;
  }
}

const keyOf = ({ host, repository }: ImageSource, digest: string): string => `${host}/${repository}@${digest}`;

const unseen = (): LacunaError =>
  new LacunaError('PRECONDITION', 'the calling process cannot be seen from this PID namespace', {
    op: 'prepare snapshot',
    hint: NAME_SOCKET,
  });

const notPulled = (layer: LazyLayer, { host, repository }: ImageSource): LacunaError =>
  new LacunaError('FORBIDDEN', `containerd did not pull manifest ${layer.manifestDigest} from ${host}/${repository}`, {
    op: 'prepare snapshot',
    subject: layer.image,
    hint: `the labels that say so come from annotations in the image; ${PULL_HINT}`,
  });
