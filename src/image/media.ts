/**
 * Media types and annotation names: OCI, Docker, and Nydus as its tools write them
 * (containerd/nydus-snapshotter pkg/converter/constant.go, nydusify pkg/utils/constant.go).
 */

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignLayerZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  /** Of release candidates of OCI 1.1 only, and in use by BuildKit, ORAS and SOCI of that time. */
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignLayerGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  nydusBlob: 'application/vnd.oci.image.layer.nydus.blob.v1',
  nydusConfig: 'application/vnd.nydus.image.config.v1+json',
  nydusArtifact: 'application/vnd.nydus.image.manifest.v1+json',
} as const;

/** Docker's schema 1, refused by name: it has no layer sizes and no config. */
export const DOCKER_SCHEMA1: readonly string[] = [
  'application/vnd.docker.distribution.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
];

/** Annotation names on manifests, layers and index entries. */
export const ANNOTATION = {
  refName: 'org.opencontainers.image.ref.name',
  created: 'org.opencontainers.image.created',
  uncompressed: 'containerd.io/uncompressed',
  nydusBlob: 'containerd.io/snapshot/nydus-blob',
  nydusBlobDigest: 'containerd.io/snapshot/nydus-blob-digest',
  nydusBlobSize: 'containerd.io/snapshot/nydus-blob-size',
  nydusBlobIds: 'containerd.io/snapshot/nydus-blob-ids',
  nydusBootstrap: 'containerd.io/snapshot/nydus-bootstrap',
  nydusFsVersion: 'containerd.io/snapshot/nydus-fs-version',
  nydusRef: 'containerd.io/snapshot/nydus-ref',
  nydusEmptyLayer: 'containerd.io/snapshot/nydus-empty-layer',
  nydusSourceChainId: 'containerd.io/snapshot/nydus-source-chainid',
  nydusSourceDigest: 'containerd.io/snapshot/nydus-source-digest',
  nydusSourceReference: 'containerd.io/snapshot/nydus-source-reference',
  nydusTargetDigest: 'containerd.io/snapshot/nydus-target-digest',
  nydusEncryptedBlob: 'containerd.io/snapshot/nydus-encrypted-blob',
  nydusReferenceBlobIds: 'containerd.io/snapshot/nydus-reference-blob-ids',
  nydusArtifactType: 'containerd.io/snapshot/nydus-artifact-type',
} as const;

/** `os.features` entry that marks a Nydus manifest in a combined index. */
export const NYDUS_OS_FEATURE = 'nydus.remoteimage.v1';

/** The `Accept` header of a request for a manifest. */
export const MANIFEST_ACCEPT: string = [
  MEDIA.ociIndex,
  MEDIA.ociManifest,
  MEDIA.dockerIndex,
  MEDIA.dockerManifest,
  MEDIA.ociArtifact,
].join(', ');

export const isIndex = (mediaType: string): boolean => mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerIndex;

export const isManifest = (mediaType: string): boolean =>
  mediaType === MEDIA.ociManifest || mediaType === MEDIA.dockerManifest;

/** Whether a registry keeps what has this type among its manifests. */
export const isDocument = (mediaType: string): boolean =>
  isManifest(mediaType) || isIndex(mediaType) || mediaType === MEDIA.ociArtifact;

/** Whether a layer of this type may not be distributed, so that registries need not have it. */
export const isForeignLayer = (mediaType: string): boolean =>
  mediaType.startsWith(MEDIA.ociForeignLayer) || mediaType.startsWith(MEDIA.dockerForeignLayer);

/** How a layer is compressed. */
export type LayerCompression = 'gzip' | 'zstd' | 'none';

const LAYERS: Readonly<Record<string, LayerCompression>> = {
  [MEDIA.ociLayer]: 'none',
  [MEDIA.ociLayerGzip]: 'gzip',
  [MEDIA.ociLayerZstd]: 'zstd',
  [MEDIA.ociForeignLayer]: 'none',
  [MEDIA.ociForeignLayerGzip]: 'gzip',
  [MEDIA.ociForeignLayerZstd]: 'zstd',
  [MEDIA.dockerLayer]: 'none',
  [MEDIA.dockerLayerGzip]: 'gzip',
  [MEDIA.dockerLayerZstd]: 'zstd',
  [MEDIA.dockerForeignLayer]: 'none',
  [MEDIA.dockerForeignLayerGzip]: 'gzip',
};

/** How a tar layer of this type is compressed; null when it is not a tar layer (a Nydus blob, an artifact). */
export const layerCompression = (mediaType: string): LayerCompression | null =>
  Object.hasOwn(LAYERS, mediaType) ? LAYERS[mediaType]! : null;
