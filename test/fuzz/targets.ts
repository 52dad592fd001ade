/** What is fuzzed: every decoder of untrusted bytes that is written in TypeScript, and the documents that it starts from. */
import { readFileSync } from 'node:fs';
import type { RafsBlob } from '../../src/formats/rafs/blob.ts';
import { ChunkInfo } from '../../src/formats/rafs/chunk-info.ts';
import { unpackMeta } from '../../src/formats/rafs/meta.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { checkStructure } from '../../src/formats/rafs/structure.ts';
import { decodeToc } from '../../src/formats/rafs/toc.ts';
import { artifactTypeOf, manifestTypeOf, mayBeImage } from '../../src/image/kind.ts';
import { type Descriptor, parseConfig, parseIndex, parseManifest } from '../../src/image/manifest.ts';
import { isIndex, isManifest, MEDIA } from '../../src/image/media.ts';
import { hostPlatform, platformOfConfig } from '../../src/image/platform.ts';
import { parseReference } from '../../src/image/reference.ts';
import { listTree } from '../../src/inspect/entries.ts';
import { portableCodec } from '../../src/native/codec.ts';
import { findMembers, readInlineBootstrap } from '../../src/reader/blob-members.ts';
import { readBootstrapTar } from '../../src/reader/bootstrap.ts';
import { imagesOf } from '../../src/reader/index-images.ts';
import type { ImageStore } from '../../src/registry/store.ts';
import { LayerBuilder } from '../../src/tree/layer.ts';
import { overlay } from '../../src/tree/overlay.ts';
import { TarParser } from '../../src/tree/tar.ts';
import { fixture, layerTars, layoutBlob } from '../kit/layers.ts';
import { smallBootstrap } from '../kit/small-bootstrap.ts';
import { oldSparse, sparse00, sparse01, sparse10 } from '../kit/sparse.ts';
import { END, member, pax } from '../kit/tar.ts';
import { type Hot, mendChecksums, mutateBytes, mutateJson, mutateText, type Pick } from './mutate.ts';

export interface Target {
  readonly name: string;
  /** Of ten thousand executions so many are this target's. */
  readonly share: number;
  readonly seeds: readonly Buffer[];
  readonly mutate: (seed: Buffer, pick: Pick) => Buffer;
  /** Decodes everything there is in the bytes. */
  readonly run: (bytes: Buffer) => void | Promise<void>;
}

const inlineToc = 'd13b65e4d824a0fe08d8b4141d4d3f7014744ae30a38051288921e804fb5afab';
const ID = { blobId: inlineToc };
const boot = (variant: string, file = 'bootstrap') => readFileSync(fixture('rafs', variant, file));
const bytesWith = (hot: Hot) => (seed: Buffer, pick: Pick) => mutateBytes(seed, pick, hot);

/** Superblocks, device slots, blob table. */
const BOOTSTRAP_HOT: Hot = [
  [1024, 384],
  [1408, 384],
  [4096, 768],
  [8192, 4608],
];

function readBootstrap(bytes: Buffer): void {
  const image = openBootstrap(bytes, { subject: 'fuzz', ...ID });
  const root = image.root();
  // As `ls DIRECTORY` and `cat` go in, before everything is read.
  root.children!.get('bin')?.children?.get('box');
  for (const { node } of listTree(root, '/', { recursive: false })) void node.chunks;
  const todo = [root];
  const known = new Set(todo);
  // Grows while it is walked.
  for (const node of todo) {
    const { mode, uid, gid, mtime, size, rdev, target, xattrs, nlink, chunks } = node;
    void [mode, uid, gid, mtime, size, rdev, target, xattrs, nlink, chunks];
    for (const child of node.children?.values() ?? []) {
      if (!known.has(child)) todo.push(child);
      known.add(child);
    }
  }
  image.prefetch();
  for (const [i] of image.blobs.entries()) image.chunksOf(i);
}

function checkToMount(bytes: Buffer): void {
  const { superblock, blobs } = openBootstrap(bytes, { subject: 'fuzz' });
  checkStructure(bytes, superblock, blobs.length, 'fuzz');
}

/** The blobs of fixtures whose chunk info has contexts, with the plain `blob.meta` of each. */
async function withMeta(variant: string, file: (blob: RafsBlob) => string): Promise<{ blob: RafsBlob; meta: Buffer }> {
  const [blob] = openBootstrap(boot(variant), { subject: variant }).blobs;
  const stored = boot(variant, file(blob!));
  const at = blob!.ciOffset;
  const packed = stored.subarray(at, at + blob!.ciCompressedSize + 4096);
  return { blob: blob!, meta: await unpackMeta(packed, blob!, portableCodec(), variant) };
}

function metaTarget(name: string, share: number, { blob, meta }: { blob: RafsBlob; meta: Buffer }): Target {
  const run = (bytes: Buffer): void => {
    const info = new ChunkInfo(bytes, blob, 'fuzz');
    for (let i = 0; i < info.length; i++) info.within(i, info.entry(i).uncompressedSize);
  };
  const hot: Hot = [
    [meta.length - 4096, 64],
    [blob.chunkCount * 24, blob.ciUncompressedSize - blob.chunkCount * 24],
    [0, 96],
  ];
  return { name, share, seeds: [meta], mutate: bytesWith(hot), run };
}

/** The members of a tar that lie within its first `limit` bytes, as a whole tar. */
function firstMembers(tar: Buffer, limit: number): Buffer {
  let end = 0;
  for (let at = 0; at < limit; ) {
    end = at;
    at += 512 + Math.ceil(Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8) / 512) * 512;
  }
  return Buffer.concat([tar.subarray(0, end), END]);
}

/** Most headers with a right checksum: behind it the interesting part begins. */
function mutateTar(seed: Buffer, pick: Pick, hot: Hot): Buffer {
  const bytes = mutateText(seed, pick, hot);
  return pick(8) === 0 ? bytes : mendChecksums(bytes);
}

/** Changes in header and table of contents, whose checksum is right most of the time. */
function mutateEnd(seed: Buffer, pick: Pick): Buffer {
  const table = 5 * 128;
  const hot: Hot = [
    [seed.length - 512, 160],
    [seed.length - 512 - table, table],
    [seed.length - 512 - table - 512, 160],
  ];
  const bytes = pick(2) === 0 ? mutateBytes(seed, pick, hot) : mutateText(seed, pick, hot);
  if (pick(8) > 0)
    for (const at of [512, 512 + table + 512]) mendChecksums(bytes.subarray(-at, bytes.length - at + 512));
  return bytes;
}

/** Tars, cut to the members that are interesting; content is not. */
function readTar(bytes: Buffer): void {
  const builder = new LayerBuilder('fuzz');
  const parser = new TarParser(
    { entry: (entry) => void builder.add(entry), content: (_b, _s, n) => n, hole: (n) => n },
    { subject: 'fuzz' },
  );
  const rest = bytes.length - parser.push(bytes, 0, bytes.length);
  parser.finish(rest);
  const root = overlay([builder.finish()]);
  for (const _ of listTree(root, '/', { recursive: true }));
}

const INDEX: Descriptor = { mediaType: MEDIA.ociIndex, digest: `sha256:${'0'.repeat(64)}`, size: 1 };

/** A store in which every index is the one in `bytes`, so that it may lie in itself. */
const storeOf = (bytes: Buffer, manifest: Buffer, config: Buffer): ImageStore =>
  ({
    subject: 'fuzz',
    manifest: async ({ mediaType }: Descriptor) =>
      isIndex(mediaType) ? bytes : isManifest(mediaType) ? manifest : config,
  }) as unknown as ImageStore;

/** The same documents as Go programs write them, an index with all kinds of entries, and an artifact's manifest. */
function documentsWithNulls(manifest: Buffer, index: Buffer, config: Buffer) {
  const withNulls = (bytes: Buffer, fields: object) =>
    Buffer.from(JSON.stringify({ ...(JSON.parse(bytes.toString()) as object), ...fields }));
  const [entry] = (JSON.parse(index.toString()) as { manifests: object[] }).manifests;
  const unknown = { os: 'unknown', architecture: 'unknown', variant: null };
  const manifests = [
    { ...entry, platform: unknown, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } },
    { ...entry, artifactType: 'application/vnd.amazon.soci.index.v2+json', platform: null, urls: null },
    { ...entry, platform: { os: 'linux', architecture: 'amd64', 'os.features': null } },
    { ...INDEX, annotations: null },
    { ...INDEX, mediaType: MEDIA.ociArtifact, digest: `sha512:${'0'.repeat(128)}` },
  ];
  return {
    manifest: withNulls(manifest, { annotations: null, subject: null, artifactType: null, layers: null }),
    artifact: withNulls(manifest, {
      artifactType: 'application/vnd.example',
      config: { ...INDEX, mediaType: MEDIA.ociEmpty },
    }),
    index: withNulls(index, { annotations: null, subject: null, manifests }),
    config: withNulls(config, {
      config: null,
      history: null,
      created: null,
      rootfs: { type: 'layers', diff_ids: null },
    }),
  };
}

export async function makeTargets(): Promise<Target[]> {
  const small = smallBootstrap(140);
  const tars = layerTars('oci/nasty-mini', 'nasty-mini-gzip').map((tar) => firstMembers(tar, 24 * 1024));
  const everyHeader: Hot = Array.from({ length: 48 }, (_, i) => [i * 512, 512] as const);
  const parts = Array.from({ length: 30 }, (_, i) => [i * 4000, `${i}`] as const);
  const sparse = { name: 's', size: 200_000, parts };
  const unusual = Buffer.concat([
    ...[oldSparse, sparse00, sparse01, sparse10].map((make) => make(sparse)),
    member({ name: '.wh..wh.plnk/1.2', data: 'aufs' }),
    member({ name: 'l', type: '1', link: '.wh..wh.plnk/1.2' }),
    member({ name: '../up/.wh.x' }),
    member({ name: 'c', type: '3' }),
    pax({ mtime: '9007199254740993.5', uid: '-1', 'SCHILY.xattr.trusted.overlay.opaque': 'y' }),
    member({ name: 'd/', type: '\0', magic: '' }),
    END,
  ]);
  const layout = 'nydus-oci/zran';
  const manifest = layoutBlob(layout, 'sha256:fef0198064f2435782b17dd990fb9413f949a71380f701a5246db00c45fcb85e');
  const config = layoutBlob(layout, 'sha256:494f8c74b5788f505ea6816e7f4c1725433a132d9858dfd62658beadcb10c3ed');
  const index = readFileSync(fixture(layout, 'index.json'));
  const blob = boot('inline-meta-toc', inlineToc);
  const toc = blob.subarray(-512 - 5 * 128, -512);
  const bootstrapLayer = Buffer.concat([
    member({ name: 'image', type: '5' }),
    member({ name: 'image/image.boot', data: 'x'.repeat(3000) }),
    member({ name: `image/${inlineToc}.blob.meta`, data: 'y'.repeat(1000) }),
    member({ name: 'image/backend.json', data: '{}' }),
    END,
  ]);
  const references = ['docker://a.b:5000/c/d:e', 'oci:dir:ref', 'rafs:boot,blobs=dir', 'localhost/x@sha256:'];
  const codec = portableCodec();
  const inMemory = (bytes: Buffer) => ({
    size: bytes.length,
    subject: 'fuzz',
    readAt: async (offset: number, length: number) => bytes.subarray(offset, offset + length),
  });
  const json = (name: string, seeds: readonly Buffer[], parse: (bytes: Buffer) => unknown): Target => ({
    name,
    share: 600,
    seeds,
    mutate: mutateJson,
    run: async (bytes) => void (await parse(bytes)),
  });
  const nulls = documentsWithNulls(manifest, index, config);
  return [
    { name: 'bootstrap', share: 1000, seeds: [small], mutate: bytesWith(BOOTSTRAP_HOT), run: readBootstrap },
    { name: 'bootstrap to mount', share: 600, seeds: [small], mutate: bytesWith(BOOTSTRAP_HOT), run: checkToMount },
    {
      name: 'bootstrap of nydus',
      share: 40,
      seeds: [
        boot('chunk-dict'),
        boot('merged'),
        boot('batch'),
        boot('encrypted'),
        boot('zran'),
        boot('tarfs'),
        boot('prefetch'),
        boot('inline-meta-toc', `${inlineToc}.boot`),
      ],
      mutate: bytesWith(BOOTSTRAP_HOT),
      run: readBootstrap,
    },
    metaTarget('blob.meta of batches', 1500, await withMeta('batch', ({ id }) => id)),
    metaTarget(
      'blob.meta of spans',
      900,
      await withMeta('zran-single', ({ metaDigest }) => metaDigest!.toString('hex')),
    ),
    {
      name: 'table of contents',
      share: 1500,
      seeds: [toc],
      mutate: bytesWith([[0, toc.length]]),
      run: (bytes) => void decodeToc(bytes, 'fuzz'),
    },
    {
      name: 'end of a blob',
      share: 400,
      seeds: [blob],
      mutate: (seed, pick) => mutateEnd(seed, pick),
      run: async (bytes) => {
        await findMembers(inMemory(bytes));
        await readInlineBootstrap(inMemory(bytes), codec);
      },
    },
    {
      name: 'layer tar',
      share: 500,
      seeds: [...tars, unusual],
      mutate: (seed, pick) => mutateTar(seed, pick, everyHeader),
      run: readTar,
    },
    {
      name: 'bootstrap layer',
      share: 300,
      seeds: [bootstrapLayer],
      mutate: (seed, pick) => mutateTar(seed, pick, everyHeader),
      run: async (bytes) => {
        await readBootstrapTar(one(bytes), 'fuzz');
      },
    },
    json('manifest', [manifest, nulls.manifest, nulls.artifact], (bytes) => {
      if (manifestTypeOf(bytes, '', 'fuzz') !== MEDIA.ociIndex) artifactTypeOf(parseManifest(bytes, 'fuzz'));
    }),
    json('index', [index, nulls.index], async (bytes) => {
      parseIndex(bytes, 'fuzz').manifests.filter(mayBeImage);
      for (const platform of [null, hostPlatform()])
        await imagesOf(storeOf(bytes, manifest, config), INDEX, platform, {});
    }),
    json('config', [config, nulls.config], (bytes) => platformOfConfig(parseConfig(bytes, 'fuzz'))),
    {
      name: 'reference',
      share: 960,
      seeds: references.map((text) => Buffer.from(text.padEnd(64))),
      mutate: (seed, pick) => mutateText(Buffer.from(seed.toString().trimEnd().padEnd(64, 'x')), pick, [[0, 40]]),
      run: (bytes) => void parseReference(bytes.toString('latin1')),
    },
  ];
}

async function* one(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
