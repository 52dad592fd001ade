/** Mounts of a snapshot, the same as those of containerd's overlayfs snapshotter. containerd performs them. */
import { existsSync, readFileSync } from 'node:fs';
import { LacunaError } from '../errors.ts';
import type { Kind, Mount, SnapshotRecord } from './info.ts';
import { LABEL } from './labels.ts';

/** Overlayfs options that depend on the host. */
export interface OverlayOptions {
  /** The kernel has the option `index`, which must be off for lower layers that many overlays share. */
  readonly indexOff: boolean;
  /** Inside a user namespace overlayfs may only write `user.` attributes. */
  readonly userxattr: boolean;
}

export function probeOverlay(): OverlayOptions {
  return { indexOff: existsSync('/sys/module/overlay/parameters/index'), userxattr: inUserNamespace() };
}

function inUserNamespace(): boolean {
  const map = existsSync('/proc/self/uid_map') ? readFileSync('/proc/self/uid_map', 'utf8') : '';
  const everyone = /^\s*0\s+0\s+4294967295\s*$/;
  return map !== '' && !everyone.test(map);
}

/** The layers below a new snapshot. */
export interface Stack {
  /** Newest first: records whose own tree is stacked, the last one perhaps a bootstrap. */
  readonly layers: readonly SnapshotRecord[];
  /** The bootstrap at the bottom; null when all layers are plain. */
  readonly image: SnapshotRecord | null;
}

/**
 * Layers below a new snapshot on top of `chain`, which is newest first. A bootstrap holds the merged tree of all layers below
 * it, so the walk ends there. PRECONDITION for a lazy data layer without its bootstrap: it has no files.
 */
export function stackOf(chain: readonly SnapshotRecord[]): Stack {
  const layers: SnapshotRecord[] = [];
  for (const record of chain) {
    if (record.content === 'blob') {
      const image = record.labels[LABEL.imageRef] ?? 'unknown';
      throw new LacunaError('PRECONDITION', `the layer is data of the lazy image ${image}, without files of its own`, {
        subject: record.name,
        hint: `use that image's last layer, which holds its file tree; where this is a layer of another image, remove ${image}`,
      });
    }
    layers.push(record);
    if (record.content === 'bootstrap') return { layers, image: record };
  }
  return { layers, image: null };
}

/** The mounts of an active snapshot or a view. `lowers` are directories, newest first. */
export function mountsOf(
  snapshot: { readonly kind: Kind; readonly fs: string; readonly work: string },
  lowers: readonly string[],
  options: OverlayOptions,
): Mount[] {
  const readonly = snapshot.kind === 'view';
  // Overlayfs needs a lower directory, and two of them when there is no upper one.
  if (lowers.length === 0) return [bind(snapshot.fs, readonly)];
  if (readonly && lowers.length === 1) return [bind(lowers[0]!, true)];
  const settings = [
    ...(options.indexOff ? ['index=off'] : []),
    ...(options.userxattr ? ['userxattr'] : []),
    ...(readonly ? [] : [`workdir=${snapshot.work}`, `upperdir=${snapshot.fs}`]),
    `lowerdir=${lowers.join(':')}`,
  ];
  return [{ type: 'overlay', source: 'overlay', options: settings }];
}

const bind = (source: string, readonly: boolean): Mount => ({
  type: 'bind',
  source,
  options: [readonly ? 'ro' : 'rw', 'rbind'],
});

/** Refuses paths with characters that are special in overlayfs options. */
export function assertMountable(root: string): void {
  if (!/[:,\\]/.test(root)) return;
  throw new LacunaError('USAGE', 'the root of a snapshotter must not contain a colon, a comma or a backslash', {
    subject: root,
  });
}
