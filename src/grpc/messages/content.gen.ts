// Made from proto/containerd/content.proto by `npm run build:proto`.

export interface Content {
  readonly Info: { readonly request: InfoRequest; readonly response: InfoResponse };
  readonly Update: { readonly request: UpdateRequest; readonly response: UpdateResponse };
  readonly Status: { readonly request: StatusRequest; readonly response: StatusResponse };
  readonly Write: { readonly request: WriteContentRequest; readonly response: WriteContentResponse; readonly streams: true };
}

export interface Info {
  readonly digest: string;
  readonly size: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface InfoRequest {
  readonly digest: string;
}

export interface InfoResponse {
  readonly info: Info | null;
}

export interface UpdateRequest {
  readonly info: Info | null;
  readonly updateMask: { readonly paths: readonly string[] } | null;
}

export interface UpdateResponse {
  readonly info: Info | null;
}

export interface StatusRequest {
  readonly ref: string;
}

/** A write that is under way. */
export interface Status {
  readonly ref: string;
  readonly offset: number;
  readonly total: number;
  readonly expected: string;
}

export interface StatusResponse {
  readonly status: Status | null;
}

export type WriteAction = 'STAT' | 'WRITE' | 'COMMIT';

export interface WriteContentRequest {
  readonly action: WriteAction;
  /** Names the write, so that it can be taken up again. */
  readonly ref: string;
  readonly total: number;
  readonly expected: string;
  readonly offset: number;
  readonly data: Buffer;
  readonly labels: Readonly<Record<string, string>>;
}

export interface WriteContentResponse {
  readonly action: WriteAction;
  readonly offset: number;
  readonly total: number;
  readonly digest: string;
}
