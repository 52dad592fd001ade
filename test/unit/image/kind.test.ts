/** What a document is: by its own word, its registry's, or its content. */
import { describe, expect, test } from 'vitest';
import { LacunaError } from '../../../src/errors.ts';
import { artifactTypeOf, manifestTypeOf, mayBeImage } from '../../../src/image/kind.ts';
import { type Descriptor, parseManifest } from '../../../src/image/manifest.ts';

const OCI = 'application/vnd.oci.image';
const MANIFEST = `${OCI}.manifest.v1+json`;
const INDEX = `${OCI}.index.v1+json`;
const CONFIG = `${OCI}.config.v1+json`;
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
const ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const blob = (mediaType: string, annotations?: Record<string, string>): Descriptor => ({
  mediaType,
  digest: `sha256:${'0'.repeat(64)}`,
  size: 2,
  ...(annotations === undefined ? {} : { annotations }),
});

describe('the type of a document', () => {
  const image = { schemaVersion: 2, config: blob(CONFIG), layers: [] };

  test.each<[said: string, document: object, type: string]>([
    [MANIFEST, image, MANIFEST],
    [DOCKER_MANIFEST, image, DOCKER_MANIFEST],
    [MANIFEST, { ...image, mediaType: MANIFEST }, MANIFEST],
    ['', { ...image, mediaType: DOCKER_MANIFEST }, DOCKER_MANIFEST],
    ['', image, MANIFEST],
    ['application/json', image, MANIFEST],
    ['text/plain', { schemaVersion: 2, config: blob(CONFIG) }, MANIFEST],
    ['application/octet-stream', { ...image, mediaType: null }, MANIFEST],
    ['', { schemaVersion: 2, manifests: [] }, INDEX],
    ['text/html', { schemaVersion: 2, mediaType: INDEX }, INDEX],
  ])('sent as %j: %j', (said, document, type) => {
    expect(manifestTypeOf(bytes(document), said, 'x')).toBe(type);
  });

  test.each<[said: string, document: object, code: string, words: string]>([
    [SCHEMA1, {}, 'UNSUPPORTED', 'schema 1'],
    ['application/json', { schemaVersion: 1 }, 'UNSUPPORTED', 'schema 1'],
    ['text/plain', { schemaVersion: 1, mediaType: SCHEMA1 }, 'UNSUPPORTED', 'schema 1'],
    ['', { schemaVersion: 1, fsLayers: [] }, 'UNSUPPORTED', 'schema 1'],
    [ARTIFACT, { mediaType: ARTIFACT, blobs: [] }, 'UNSUPPORTED', `not an image but ${ARTIFACT}`],
    ['application/json', { mediaType: ARTIFACT }, 'UNSUPPORTED', ARTIFACT],
    ['application/vnd.example.thing', {}, 'UNSUPPORTED', 'application/vnd.example.thing'],
    [MANIFEST, { mediaType: INDEX }, 'PROTOCOL', INDEX],
    [MANIFEST, { mediaType: ARTIFACT }, 'PROTOCOL', ARTIFACT],
    ['text/html', {}, 'PROTOCOL', 'text/html'],
    ['', {}, 'FORMAT', 'not a manifest or index'],
    ['', { config: {}, manifests: [] }, 'FORMAT', 'not a manifest or index'],
  ])('sent as %j: %j is %s', (said, document, code, words) => {
    let error: unknown = null;
    try {
      manifestTypeOf(bytes(document), said, 'x');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(LacunaError);
    expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
  });
});

describe('what a manifest describes', () => {
  const typeOf = (fields: object) => artifactTypeOf(parseManifest(bytes({ schemaVersion: 2, ...fields }), 'x'));
  const TAR = `${OCI}.layer.v1.tar+gzip`;

  test.each<[name: string, fields: object]>([
    ['an image', { config: blob(CONFIG), layers: [blob(TAR)] }],
    ['one without layers', { config: blob(CONFIG) }],
    [
      'one of a registry that lost its config’s type',
      { config: blob('application/octet-stream'), layers: [blob(TAR)] },
    ],
    ['one with a layer that nobody knows among others', { config: blob(CONFIG), layers: [blob('a/b'), blob(TAR)] }],
    [
      'one with layers from elsewhere',
      { config: blob(CONFIG), layers: [blob(`${OCI}.layer.nondistributable.v1.tar`)] },
    ],
    [
      'a lazy one',
      {
        config: blob('application/vnd.example.config'),
        layers: [blob(TAR, { 'containerd.io/snapshot/nydus-bootstrap': 'true' })],
      },
    ],
  ])('%s is an image', (_name, fields) => {
    expect(typeOf(fields)).toBeNull();
  });

  const SOCI = 'application/vnd.amazon.soci.index.v2+json';
  test.each<[name: string, fields: object, type: string]>([
    [
      'a chart',
      { config: blob('application/vnd.cncf.helm.config.v1+json'), layers: [blob(TAR)] },
      'application/vnd.cncf.helm.config.v1+json',
    ],
    [
      'a signature of cosign',
      { config: blob(CONFIG), layers: [blob('application/vnd.dev.cosign.simplesigning.v1+json')] },
      'application/vnd.dev.cosign.simplesigning.v1+json',
    ],
    [
      'an attestation of BuildKit',
      { config: blob(CONFIG), layers: [blob('application/vnd.in-toto+json')] },
      'application/vnd.in-toto+json',
    ],
    [
      'an artifact without a config',
      {
        config: blob('application/vnd.oci.empty.v1+json'),
        artifactType: 'application/vnd.example+type',
        layers: [blob('text/plain')],
      },
      'application/vnd.example+type',
    ],
    ['a SOCI index', { config: blob(SOCI), artifactType: SOCI, layers: [blob('application/octet-stream')] }, SOCI],
    [
      'a wasm module',
      { config: blob('application/vnd.wasm.config.v0+json'), layers: [blob('application/wasm')] },
      'application/vnd.wasm.config.v0+json',
    ],
  ])('%s is not', (_name, fields, type) => {
    expect(typeOf(fields)).toBe(type);
  });
});

describe('entries of an index', () => {
  test.each<[mayBe: boolean, entry: object]>([
    [true, {}],
    [true, { platform: { os: 'linux', architecture: 'amd64' } }],
    [true, { artifactType: CONFIG }],
    [true, { artifactType: 'application/vnd.nydus.image.manifest.v1+json' }],
    [true, { mediaType: DOCKER_MANIFEST }],
    [false, { platform: { os: 'unknown', architecture: 'unknown' } }],
    [false, { annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } }],
    [
      false,
      { artifactType: 'application/vnd.amazon.soci.index.v2+json', platform: { os: 'linux', architecture: 'amd64' } },
    ],
    [false, { mediaType: ARTIFACT }],
    [false, { mediaType: INDEX }],
    [false, { mediaType: 'application/wasm' }],
  ])('may be an image: %j %j', (mayBe, entry) => {
    expect(mayBeImage({ ...blob(MANIFEST), ...entry })).toBe(mayBe);
  });
});
