// Made from proto/lacuna/snapshotter/v1/snapshotter.proto by `npm run build:proto`.

export interface Snapshotter {
  /**
   * How a registry is reached. Kept in memory only and handed to the daemon; after a restart credentials come from
   * docker's configuration again.
   */
  readonly SetRegistry: { readonly request: SetRegistryRequest; readonly response: SetRegistryResponse };
  /**
   * Starts to fetch an image's bootstrap layer, so that it is there when containerd prepares it. Returns at once and
   * never fails for the fetch's sake: Prepare tells.
   */
  readonly Expect: { readonly request: ExpectRequest; readonly response: ExpectResponse };
}

export interface SetRegistryRequest {
  /** host[:port] */
  readonly host: string;
  /** All three empty: nothing is known (docker's configuration is asked). */
  readonly username: string;
  readonly password: string;
  /** Instead of username and password. */
  readonly identityToken: string;
  /** HTTP instead of HTTPS. Absent: HTTP for loopback hosts only. */
  readonly plainHttp?: boolean;
}

export type SetRegistryResponse = object;

export interface ExpectRequest {
  /** The image, as containerd will name it in the label cri.image-ref. */
  readonly image: string;
  /** The layer's digest, as containerd will name it in the label cri.layer-digest. */
  readonly layer: string;
  /** Its media type and size in bytes, where the caller knows them. */
  readonly mediaType: string;
  readonly size: number;
}

export interface ExpectResponse {
  /** The bootstrap is here already, nothing is fetched. */
  readonly known: boolean;
}
