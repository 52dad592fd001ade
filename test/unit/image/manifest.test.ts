import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FormatError, isLacunaError } from '../../../src/errors.ts';
import { MAX_MANIFEST_SIZE, parseConfig, parseIndex, parseManifest } from '../../../src/image/manifest.ts';
import { ANNOTATION, layerCompression, MEDIA } from '../../../src/image/media.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures');
const DIGEST = `sha256:${'0'.repeat(64)}`;
const descriptor = (mediaType: string, size = 1) => ({ mediaType, digest: DIGEST, size });
const manifest = { schemaVersion: 2, config: descriptor(MEDIA.ociConfig), layers: [descriptor(MEDIA.ociLayerGzip)] };
const config = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [DIGEST] } };
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

function problemOf(parse: () => unknown): FormatError {
  try {
    parse();
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('documents of the fixtures', () => {
  const layouts = ['oci/tame-mini', 'oci/nasty-mini', 'nydus-oci/index'];
  test.each(layouts)('%s', (layout) => {
    const dir = join(FIXTURES, layout);
    const blob = (digest: string): Buffer => readFileSync(join(dir, 'blobs', ...digest.split(':')));
    const index = parseIndex(readFileSync(join(dir, 'index.json')), layout);
    expect(index.manifests.length).toBeGreaterThan(0);
    const manifests = index.manifests.flatMap((entry) =>
      entry.mediaType === MEDIA.ociIndex ? parseIndex(blob(entry.digest), entry.digest).manifests : [entry],
    );
    for (const entry of manifests) {
      const read = parseManifest(blob(entry.digest), entry.digest);
      const diffIds = parseConfig(blob(read.config.digest), read.config.digest).rootfs.diff_ids;
      expect(diffIds).toHaveLength(read.layers.length);
      const stored = readdirSync(join(dir, 'blobs/sha256'));
      for (const layer of read.layers) expect(stored).toContain(layer.digest.slice('sha256:'.length));
    }
  });

  test('what nydusify writes', () => {
    const dir = join(FIXTURES, 'nydus-oci/index');
    const blob = (digest: string): Buffer => readFileSync(join(dir, 'blobs', ...digest.split(':')));
    const [top] = parseIndex(readFileSync(join(dir, 'index.json')), 'index').manifests;
    const nydus = parseManifest(blob(parseIndex(blob(top!.digest), 'x').manifests[1]!.digest), 'y');
    expect(nydus.config.mediaType).toBe(MEDIA.nydusConfig);
    expect(nydus.layers.map((layer) => layer.mediaType)).toEqual([
      MEDIA.nydusBlob,
      MEDIA.nydusBlob,
      MEDIA.nydusBlob,
      MEDIA.ociLayerGzip,
    ]);
    expect(nydus.layers.at(-1)?.annotations).toEqual({
      [ANNOTATION.nydusBootstrap]: 'true',
      [ANNOTATION.nydusFsVersion]: '6',
    });
  });
});

test('Docker manifests have the same shape', () => {
  const docker = {
    schemaVersion: 2,
    mediaType: MEDIA.dockerManifest,
    config: descriptor(MEDIA.dockerConfig),
    layers: [descriptor(MEDIA.dockerLayerGzip)],
  };
  expect(parseManifest(bytes(docker), 'x')).toEqual(docker);
  expect(layerCompression(MEDIA.dockerLayerGzip)).toBe('gzip');
  expect(layerCompression(MEDIA.nydusBlob)).toBeNull();
  expect(layerCompression('constructor')).toBeNull();
});

test('a config keeps what it does not know, with its nulls and its order, behind what it knows', () => {
  const known = { os: 'linux', architecture: 'amd64' };
  const inner = { Env: ['A=b'], Volumes: null, Healthcheck: { Test: ['x'] } };
  const { rootfs } = config;
  const history = [{ created_by: 'a', moby: [null] }];
  const full = {
    container_config: { Volumes: null },
    history,
    rootfs,
    'os.version': '1',
    config: inner,
    ...known,
    moby: [1],
  };
  const read = parseConfig(bytes(full), 'x');
  const others = { container_config: { Volumes: null }, 'os.version': '1', moby: [1] };
  expect(JSON.stringify(read)).toBe(JSON.stringify({ ...known, config: inner, rootfs, history, ...others }));
});

describe('null, as Go programs write what is absent', () => {
  const all = { variant: null, created: null, author: null, config: null, history: null };
  test.each<[name: string, read: object, expected: object]>([
    ['in a config', parseConfig(bytes({ ...config, ...all }), 'x'), config],
    [
      'for the strings of a config',
      parseConfig(bytes({ ...config, os: null, architecture: null }), 'x'),
      { rootfs: config.rootfs },
    ],
    [
      'in a history',
      parseConfig(bytes({ ...config, history: [{ created: null, created_by: 'x', empty_layer: null }] }), 'x'),
      { ...config, history: [{ created_by: 'x' }] },
    ],
    [
      'in a manifest',
      parseManifest(
        bytes({ ...manifest, mediaType: null, artifactType: null, subject: null, annotations: null, manifests: null }),
        'x',
      ),
      manifest,
    ],
    [
      'in a descriptor',
      parseManifest(
        bytes({
          ...manifest,
          layers: [{ ...manifest.layers[0], annotations: null, platform: null, urls: null, data: null }],
        }),
        'x',
      ),
      manifest,
    ],
    [
      'for an annotation',
      parseManifest(bytes({ ...manifest, annotations: { a: null, b: 'c' } }), 'x'),
      { ...manifest, annotations: { b: 'c' } },
    ],
    [
      'in a platform',
      parseIndex(
        bytes({
          schemaVersion: 2,
          manifests: [
            {
              ...descriptor(MEDIA.ociManifest),
              platform: { os: 'linux', architecture: 'amd64', variant: null, 'os.features': null },
            },
          ],
        }),
        'x',
      ),
      {
        schemaVersion: 2,
        manifests: [{ ...descriptor(MEDIA.ociManifest), platform: { os: 'linux', architecture: 'amd64' } }],
      },
    ],
    [
      'in an index',
      parseIndex(bytes({ schemaVersion: 2, manifests: null, layers: null }), 'x'),
      { schemaVersion: 2, manifests: [] },
    ],
  ])('%s', (_name, read, expected) => {
    expect(read).toStrictEqual(expected);
  });

  test.each([[[]], [null], [undefined]])('layers and diff_ids that are %j', (list) => {
    expect(parseManifest(bytes({ ...manifest, layers: list }), 'x').layers).toEqual([]);
    expect(parseConfig(bytes({ ...config, rootfs: { type: 'layers', diff_ids: list } }), 'x').rootfs.diff_ids).toEqual(
      [],
    );
  });

  test.each(['config', 'schemaVersion'])('does not stand for %s, which a manifest needs', (field) => {
    expect(problemOf(() => parseManifest(bytes({ ...manifest, [field]: null }), 'x')).field).toBe(field);
  });
});

describe('hostile manifests', () => {
  const cases: [name: string, value: unknown, field: string][] = [
    ['a list', [], 'document'],
    ['null', null, 'document'],
    ['layers that are no list', { ...manifest, layers: {} }, 'layers'],
    ['version 3', { ...manifest, schemaVersion: 3 }, 'schemaVersion'],
    ['a size below zero', { ...manifest, layers: [descriptor(MEDIA.ociLayer, -1)] }, 'layers[0].size'],
    ['a fractional size', { ...manifest, layers: [descriptor(MEDIA.ociLayer, 1.5)] }, 'layers[0].size'],
    ['a size past 2^53', { ...manifest, layers: [descriptor(MEDIA.ociLayer, 2 ** 53)] }, 'layers[0].size'],
    ['a size as text', { ...manifest, config: { ...manifest.config, size: '1' } }, 'config.size'],
    [
      'a path as digest',
      { ...manifest, config: { ...manifest.config, digest: 'sha256:../../etc/passwd' } },
      'config.digest',
    ],
    [
      'a digest of another length',
      { ...manifest, config: { ...manifest.config, digest: 'sha256:00' } },
      'config.digest',
    ],
    ['a header in a media type', { ...manifest, config: descriptor('a/b\r\nX: y') }, 'config.mediaType'],
    ['an index type', { ...manifest, mediaType: MEDIA.ociIndex }, 'mediaType'],
    ['an index and a manifest at once', { ...manifest, manifests: [] }, 'manifests'],
    ['2000 layers', { ...manifest, layers: Array(2000).fill(manifest.config) }, 'layers'],
    ['annotations that are no text', { ...manifest, annotations: { a: 1 } }, 'annotations.a'],
  ];
  test.each(cases)('%s', (_name, value, field) => {
    const problem = problemOf(() => parseManifest(bytes(value), 'the image'));
    expect(problem.field).toBe(field);
    expect(problem.code).toBe('FORMAT');
    expect(problem.subject).toBe('the image');
  });

  const raw: [name: string, text: Buffer, problem: RegExp][] = [
    ['not JSON, and not quoted', Buffer.from('{"secret": nope'), /^document: not JSON$/],
    ['not UTF-8', Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}')]), /not JSON/],
    ['100 000 deep', Buffer.from('['.repeat(100_000)), /nested deeper than 64/],
    [
      'deep in what is not read',
      bytes({ ...manifest, x: JSON.parse(`${'['.repeat(80)}${']'.repeat(80)}`) }),
      /nested deeper than 64/,
    ],
    ['too large', Buffer.alloc(MAX_MANIFEST_SIZE + 1, 0x20), /larger than 8388608 bytes/],
  ];
  test.each(raw)('%s', (_name, text, problem) => {
    expect(problemOf(() => parseManifest(text, 'x')).message).toMatch(problem);
  });

  test('brackets in strings are not depth', () => {
    const annotations = { a: `\\"${'['.repeat(100)}` };
    expect(parseManifest(bytes({ ...manifest, annotations }), 'x').annotations).toEqual(annotations);
  });

  test('__proto__ changes nothing', () => {
    const text = JSON.stringify({ ...manifest, annotations: { a: 'b' } }).replace('"a"', '"__proto__":"x","a"');
    const { annotations } = parseManifest(Buffer.from(text), 'x');
    expect(Object.getPrototypeOf(annotations)).toBe(Object.prototype);
    expect(annotations?.a).toBe('b');
  });

  test('an index with layers, a config without rootfs', () => {
    expect(problemOf(() => parseIndex(bytes({ schemaVersion: 2, manifests: [], layers: [] }), 'x')).field).toBe(
      'layers',
    );
    expect(problemOf(() => parseConfig(bytes({ ...config, rootfs: undefined }), 'x')).field).toBe('rootfs');
    expect(
      problemOf(() => parseConfig(bytes({ ...config, rootfs: { type: 'layers', diff_ids: ['x'] } }), 'x')).field,
    ).toBe('rootfs.diff_ids[0]');
  });

  test('schema 1 is refused by name', () => {
    for (const value of [
      { schemaVersion: 1 },
      { mediaType: 'application/vnd.docker.distribution.manifest.v1+prettyjws' },
    ]) {
      try {
        parseManifest(bytes(value), 'old');
        expect.unreachable();
      } catch (error) {
        expect(isLacunaError(error) && error.code).toBe('UNSUPPORTED');
        expect(String(error)).toContain('schema 1');
      }
    }
  });
});
