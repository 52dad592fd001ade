/** Snapshot types, and their conversion from and to containerd's messages. No I/O here. */
import type { Info } from '../grpc/messages/snapshots.gen.ts';

export type Kind = 'view' | 'active' | 'committed';

/**
 * Place of a snapshot's files: a directory of its own; the merged tree of a bootstrap above it (a lazy data layer, without
 * files of its own); or a bootstrap, whose EROFS mount is the tree of the whole image.
 */
export type Content = 'directory' | 'blob' | 'bootstrap';

export type Labels = Readonly<Record<string, string>>;

/** containerd's `snapshots.Info`. Times are microseconds since the epoch. */
export interface SnapshotInfo {
  readonly name: string;
  /** Empty: none. */
  readonly parent: string;
  readonly kind: Kind;
  readonly labels: Labels;
  readonly created: number;
  readonly updated: number;
}

/** Bytes on disk and inodes of a snapshot's own files, without its parents'. */
export interface Usage {
  readonly size: number;
  readonly inodes: number;
}

/** The registry repository that a lazy image's blobs are read from. */
export interface ImageSource {
  readonly host: string;
  readonly repository: string;
  /** Null: HTTP for loopback hosts only. */
  readonly plainHttp: boolean | null;
}

export interface SnapshotRecord extends SnapshotInfo {
  /** Identifier that is never reused under one root. */
  readonly id: number;
  readonly content: Content;
  readonly usage: Usage;
  /** Repository of a bootstrap's blobs; null otherwise. */
  readonly source: ImageSource | null;
}

/** A mount as in fstab; containerd performs it. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

const WIRE_KIND = { view: 'VIEW', active: 'ACTIVE', committed: 'COMMITTED' } as const;

const wireTime = (micros: number) => ({
  seconds: Math.floor(micros / 1e6),
  nanos: (micros % 1e6) * 1000,
});

export function toWire(info: SnapshotInfo): Info {
  return {
    name: info.name,
    parent: info.parent,
    kind: WIRE_KIND[info.kind],
    createdAt: wireTime(info.created),
    updatedAt: wireTime(info.updated),
    labels: info.labels,
  };
}
