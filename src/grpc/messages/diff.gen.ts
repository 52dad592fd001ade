// Made from proto/containerd/diff.proto by `npm run build:proto`.
import type { Descriptor, Mount } from './types.gen.ts';

export interface Diff {
  readonly Apply: { readonly request: ApplyRequest; readonly response: ApplyResponse };
}

export interface ApplyRequest {
  readonly diff: Descriptor | null;
  readonly mounts: readonly Mount[];
}

export interface ApplyResponse {
  /** Digest and size of what was applied, uncompressed. */
  readonly applied: Descriptor | null;
}
