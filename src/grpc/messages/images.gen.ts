// Made from proto/containerd/images.proto by `npm run build:proto`.
import type { Descriptor } from './types.gen.ts';

export interface Images {
  readonly Get: { readonly request: GetImageRequest; readonly response: GetImageResponse };
  readonly Create: { readonly request: CreateImageRequest; readonly response: CreateImageResponse };
  readonly Update: { readonly request: UpdateImageRequest; readonly response: UpdateImageResponse };
}

export interface Image {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly target: Descriptor | null;
}

export interface GetImageRequest {
  readonly name: string;
}

export interface GetImageResponse {
  readonly image: Image | null;
}

export interface CreateImageRequest {
  readonly image: Image | null;
}

export interface CreateImageResponse {
  readonly image: Image | null;
}

export interface UpdateImageRequest {
  readonly image: Image | null;
}

export interface UpdateImageResponse {
  readonly image: Image | null;
}
