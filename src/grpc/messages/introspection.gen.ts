// Made from proto/containerd/introspection.proto by `npm run build:proto`.

export interface Introspection {
  readonly Plugins: { readonly request: PluginsRequest; readonly response: PluginsResponse };
}

export interface Plugin {
  readonly type: string;
  readonly id: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
}

export interface PluginsRequest {
  readonly filters: readonly string[];
}

export interface PluginsResponse {
  readonly plugins: readonly Plugin[];
}
