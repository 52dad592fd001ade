// Made from proto/containerd/snapshots.proto by `npm run build:proto`.
import type { Mount } from './types.gen.ts';

export interface Snapshots {
  readonly Prepare: { readonly request: PrepareSnapshotRequest; readonly response: PrepareSnapshotResponse };
  readonly View: { readonly request: ViewSnapshotRequest; readonly response: ViewSnapshotResponse };
  readonly Mounts: { readonly request: MountsRequest; readonly response: MountsResponse };
  readonly Commit: { readonly request: CommitSnapshotRequest; readonly response: object };
  readonly Remove: { readonly request: RemoveSnapshotRequest; readonly response: object };
  readonly Stat: { readonly request: StatSnapshotRequest; readonly response: StatSnapshotResponse };
  readonly Update: { readonly request: UpdateSnapshotRequest; readonly response: UpdateSnapshotResponse };
  readonly List: { readonly request: ListSnapshotsRequest; readonly response: ListSnapshotsResponse; readonly streams: true };
  readonly Usage: { readonly request: UsageRequest; readonly response: UsageResponse };
  readonly Cleanup: { readonly request: CleanupRequest; readonly response: object };
}

export interface PrepareSnapshotRequest {
  readonly snapshotter: string;
  readonly key: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface PrepareSnapshotResponse {
  readonly mounts: readonly Mount[];
}

export interface ViewSnapshotRequest {
  readonly snapshotter: string;
  readonly key: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ViewSnapshotResponse {
  readonly mounts: readonly Mount[];
}

export interface MountsRequest {
  readonly snapshotter: string;
  readonly key: string;
}

export interface MountsResponse {
  readonly mounts: readonly Mount[];
}

export interface RemoveSnapshotRequest {
  readonly snapshotter: string;
  readonly key: string;
}

export interface CommitSnapshotRequest {
  readonly snapshotter: string;
  readonly name: string;
  readonly key: string;
  readonly labels: Readonly<Record<string, string>>;
  /** containerd 2: commit on top of this parent instead of the one it was prepared on. */
  readonly parent: string;
}

export interface StatSnapshotRequest {
  readonly snapshotter: string;
  readonly key: string;
}

export type Kind = 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED';

export interface Info {
  readonly name: string;
  readonly parent: string;
  readonly kind: Kind;
  readonly createdAt: { readonly seconds: number; readonly nanos: number } | null;
  readonly updatedAt: { readonly seconds: number; readonly nanos: number } | null;
  readonly labels: Readonly<Record<string, string>>;
}

export interface StatSnapshotResponse {
  readonly info: Info | null;
}

export interface UpdateSnapshotRequest {
  readonly snapshotter: string;
  readonly info: Info | null;
  /** `labels`, `labels.KEY`; empty: all that can be updated. */
  readonly updateMask: { readonly paths: readonly string[] } | null;
}

export interface UpdateSnapshotResponse {
  readonly info: Info | null;
}

export interface ListSnapshotsRequest {
  readonly snapshotter: string;
  /** A snapshot is listed when any of them matches; none: all are. */
  readonly filters: readonly string[];
}

export interface ListSnapshotsResponse {
  readonly info: readonly Info[];
}

export interface UsageRequest {
  readonly snapshotter: string;
  readonly key: string;
}

export interface UsageResponse {
  readonly size: number;
  readonly inodes: number;
}

export interface CleanupRequest {
  readonly snapshotter: string;
}
