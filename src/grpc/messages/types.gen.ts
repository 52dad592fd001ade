// Made from proto/containerd/types.proto by `npm run build:proto`.

export interface Mount {
  readonly type: string;
  readonly source: string;
  /** Path inside the container. */
  readonly target: string;
  /** As in fstab. */
  readonly options: readonly string[];
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
}
