// Made from proto/containerd/leases.proto by `npm run build:proto`.

export interface Leases {
  readonly Create: { readonly request: CreateRequest; readonly response: CreateResponse };
  readonly Delete: { readonly request: DeleteRequest; readonly response: object };
}

export interface Lease {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface CreateRequest {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface CreateResponse {
  readonly lease: Lease | null;
}

export interface DeleteRequest {
  readonly id: string;
  /** Waits for a garbage collection. */
  readonly sync: boolean;
}
