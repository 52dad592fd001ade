/** Deliberate damage to index, manifest, config and layers of an image. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { check } from '../../../src/check/check.ts';
import type { CheckReport } from '../../../src/check/report.ts';
import { convert } from '../../../src/convert/convert.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');
const SNAPSHOT = 'containerd.io/snapshot/';

// biome-ignore lint/suspicious/noExplicitAny: documents that are to be wrong.
type Json = any;

/** A converted image in a layout, changed as documents and files. */
class Layout {
  readonly dir: string;
  manifest: Json;
  config: Json;

  constructor(dir: string) {
    this.dir = dir;
    this.manifest = this.json(this.index.manifests[0].digest);
    this.config = this.json(this.manifest.config.digest);
  }

  get index(): Json {
    return JSON.parse(readFileSync(join(this.dir, 'index.json'), 'utf8'));
  }

  path = (digest: string): string => join(this.dir, 'blobs', ...digest.split(':'));
  json = (digest: string): Json => JSON.parse(readFileSync(this.path(digest), 'utf8'));

  put(bytes: string | Buffer): { digest: string; size: number } {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    writeFileSync(this.path(digest), bytes);
    return { digest, size: Buffer.byteLength(bytes) };
  }

  /** Writes config and manifest as they are now, and lists them. */
  save(): string {
    Object.assign(this.manifest.config, this.put(JSON.stringify(this.config)));
    return this.list(JSON.stringify(this.manifest));
  }

  list(manifest: string): string {
    const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', ...this.put(manifest) };
    writeFileSync(join(this.dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
    return entry.digest;
  }
}

describe.skipIf(skip.reason)('a damaged image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'check-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  beforeAll(async () => {
    const target = `oci:${join(dir, 'original')}:x`;
    await convert(`oci:${fixture('oci/tame-mini')}:tame-mini-gzip`, target, { target: { create: true } });
  });

  const damaged = async (damage: (layout: Layout) => void, deep = false): Promise<CheckReport> => {
    const copy = mkdtempSync(join(dir, 'i-'));
    cpSync(join(dir, 'original'), copy, { recursive: true });
    damage(new Layout(copy));
    return await check(`oci:${copy}`, { deep });
  };
  const blob = ({ manifest }: Layout): Json => manifest.layers[0];
  const last = ({ manifest }: Layout): Json => manifest.layers.at(-1);

  it('is clean before', async () => {
    expect(await damaged((layout) => void layout.save(), true)).toMatchObject({ ok: true, problems: [], warnings: 0 });
  });

  const DOCUMENTS: ReadonlyArray<readonly [what: string, field: string, damage: (layout: Layout) => void]> = [
    ['schemaVersion', 'schemaVersion', ({ manifest }) => (manifest.schemaVersion = 3)],
    [
      'media type of the manifest',
      'mediaType',
      ({ manifest }) => (manifest.mediaType = 'application/vnd.docker.distribution.manifest.v2+json'),
    ],
    ['type of the config', 'config.mediaType', ({ manifest }) => (manifest.config.mediaType = 'text/plain')],
    ['a digest', 'layers[0].digest', (layout) => (blob(layout).digest = 'sha256:12')],
    ['a layer that is missing', 'layers[0]', (layout) => (blob(layout).digest = `sha256:${'0'.repeat(64)}`)],
    ['size of a layer', 'layers[0]', (layout) => (blob(layout).size += 1)],
    [
      'type of a blob',
      'layers[0].mediaType',
      (layout) => (blob(layout).mediaType = 'application/vnd.oci.image.layer.v1.tar'),
    ],
    [
      'type of the last layer',
      'layers[3].mediaType',
      (layout) => (last(layout).mediaType = 'application/octet-stream'),
    ],
    [
      'nydus-blob',
      `layers[0].annotations.${SNAPSHOT}nydus-blob`,
      (layout) => delete blob(layout).annotations[`${SNAPSHOT}nydus-blob`],
    ],
    [
      'nydus-blob-digest',
      `layers[0].annotations.${SNAPSHOT}nydus-blob-digest`,
      (layout) => (blob(layout).annotations[`${SNAPSHOT}nydus-blob-digest`] = 'sha256:0'),
    ],
    [
      'nydus-blob-size',
      `layers[0].annotations.${SNAPSHOT}nydus-blob-size`,
      (layout) => (blob(layout).annotations[`${SNAPSHOT}nydus-blob-size`] = '7'),
    ],
    [
      'uncompressed',
      'rootfs.diff_ids[0]',
      (layout) => (blob(layout).annotations['containerd.io/uncompressed'] = `sha256:${'1'.repeat(64)}`),
    ],
    [
      'nydus-bootstrap',
      'layers[3].annotations',
      (layout) => delete last(layout).annotations[`${SNAPSHOT}nydus-bootstrap`],
    ],
    [
      'two bootstraps',
      `layers[0].annotations.${SNAPSHOT}nydus-bootstrap`,
      (layout) => (blob(layout).annotations[`${SNAPSHOT}nydus-bootstrap`] = 'true'),
    ],
    [
      'nydus-fs-version of the layer',
      `layers[3].annotations.${SNAPSHOT}nydus-fs-version`,
      (layout) => (last(layout).annotations[`${SNAPSHOT}nydus-fs-version`] = '5'),
    ],
    [
      'nydus-fs-version of the manifest',
      `annotations.${SNAPSHOT}nydus-fs-version`,
      ({ manifest }) => (manifest.annotations[`${SNAPSHOT}nydus-fs-version`] = '5'),
    ],
    [
      'nydus-source-digest',
      `annotations.${SNAPSHOT}nydus-source-digest`,
      ({ manifest }) => (manifest.annotations[`${SNAPSHOT}nydus-source-digest`] = 'sha'),
    ],
    [
      'nydus-reference-blob-ids',
      `annotations.${SNAPSHOT}nydus-reference-blob-ids`,
      ({ manifest }) => (manifest.annotations[`${SNAPSHOT}nydus-reference-blob-ids`] = '["x"]'),
    ],
    [
      'a blob of the table that is no layer',
      'blob_id',
      ({ manifest, config }) => [manifest.layers.shift(), config.rootfs.diff_ids.shift()],
    ],
    ['os', 'os', ({ config }) => (config.os = 5)],
    ['number of diff_ids', 'rootfs.diff_ids', ({ config }) => config.rootfs.diff_ids.pop()],
    [
      'diff_id of a blob',
      'rootfs.diff_ids[0]',
      ({ config }) => (config.rootfs.diff_ids[0] = `sha256:${'2'.repeat(64)}`),
    ],
    [
      'diff_id of the bootstrap',
      'rootfs.diff_ids',
      (layout) => {
        layout.config.rootfs.diff_ids[3] = `sha256:${'3'.repeat(64)}`;
        last(layout).annotations['containerd.io/uncompressed'] = `sha256:${'3'.repeat(64)}`;
      },
    ],
    ['history', 'history', ({ config }) => config.history.pop()],
  ];
  for (const [what, field, damage] of DOCUMENTS) {
    it(`${what}: the report names ${field}`, async () => {
      const report = await damaged((layout) => {
        damage(layout);
        layout.save();
      });
      expect(report.problems.map((problem) => problem.field)).toContain(field);
    });
  }

  it('a history of other layers is a warning, as engines run the image', async () => {
    const { problems } = await damaged((layout) => {
      layout.config.history.pop();
      layout.save();
    });
    expect(problems.map(({ field, severity }) => [field, severity])).toContainEqual(['history', 'warning']);
    expect(problems.map(({ severity }) => severity)).not.toContain('error');
  });

  it('all at once is told of all', async () => {
    const { problems } = await damaged((layout) => {
      blob(layout).size += 1;
      last(layout).annotations[`${SNAPSHOT}nydus-fs-version`] = '5';
      layout.config.history.pop();
      layout.config.rootfs.diff_ids[0] = `sha256:${'2'.repeat(64)}`;
      layout.save();
    });
    const fields = problems.map(({ field }) => field);
    for (const field of [
      'layers[0]',
      `layers[3].annotations.${SNAPSHOT}nydus-fs-version`,
      'history',
      'rootfs.diff_ids[0]',
    ]) {
      expect(fields).toContain(field);
    }
  });

  it('of a manifest with several fields of a wrong kind lists each of them', async () => {
    const { problems } = await damaged((layout) => {
      blob(layout).size = -1;
      layout.manifest.layers[1].digest = 7;
      layout.manifest.annotations.x = 1;
      layout.save();
    });
    expect(problems.map(({ field }) => field).toSorted()).toEqual([
      'annotations.x',
      'layers[0].size',
      'layers[1].digest',
    ]);
  });

  it('that is not JSON, is somebody else, or is gone', async () => {
    expect((await damaged((layout) => void layout.list('{'))).problems).toEqual([
      expect.objectContaining({ field: 'document', code: 'FORMAT' }),
    ]);
    const other = await damaged((layout) =>
      writeFileSync(layout.path(layout.index.manifests[0].digest), JSON.stringify(layout.manifest, null, 1)),
    );
    expect(other.problems[0]).toMatchObject({ code: 'SIZE_MISMATCH', field: 'size' });
    const changed = await damaged((layout) => {
      const path = layout.path(layout.manifest.config.digest);
      writeFileSync(path, readFileSync(path, 'utf8').replace('"linux"', '"windo"'));
    });
    expect(changed.problems).toEqual([expect.objectContaining({ code: 'DIGEST_MISMATCH', field: 'digest' })]);
    const gone = await damaged((layout) => unlinkSync(layout.path(layout.manifest.config.digest)));
    expect(gone.problems).toEqual([expect.objectContaining({ code: 'NOT_FOUND' })]);
  });

  it('with a bootstrap layer that lacks its members, or whose blob.meta is not the blobʼs', async () => {
    const rewrite = (change: (tar: Buffer) => Buffer) => (layout: Layout) => {
      const tar = change(gunzipSync(readFileSync(layout.path(last(layout).digest))));
      const diffId = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
      Object.assign(last(layout), layout.put(gzipSync(tar)));
      last(layout).annotations['containerd.io/uncompressed'] = diffId;
      layout.config.rootfs.diff_ids[3] = diffId;
      layout.save();
    };
    const empty = await damaged(rewrite(() => Buffer.alloc(1024)));
    expect(empty.problems).toEqual([expect.objectContaining({ field: 'image/image.boot' })]);
    const meta = await damaged(
      rewrite((tar) => {
        const at = tar.indexOf('.blob.meta');
        const start = at - (at % 512) + 512;
        tar.writeUInt8(tar[start + 20]! ^ 1, start + 20);
        return tar;
      }),
    );
    expect(meta.problems).toEqual([expect.objectContaining({ field: 'content', offset: 20, code: 'DIGEST_MISMATCH' })]);
    expect(meta.problems[0]!.subject).toMatch(/^blob\.meta of blob /);
  });

  it('whose layers were changed is found by reading them', async () => {
    const copy = mkdtempSync(join(dir, 'l-'));
    cpSync(fixture('oci/tame-mini'), copy, { recursive: true });
    const layout = new Layout(copy);
    layout.save();
    const path = layout.path(layout.manifest.layers[1].digest);
    const bytes = readFileSync(path);
    bytes[5000]! ^= 1;
    writeFileSync(path, bytes);
    expect((await check(`oci:${copy}`)).problems).toEqual([]);
    const { problems } = await check(`oci:${copy}`, { deep: true });
    expect(problems).toEqual([expect.objectContaining({ subject: `layer ${layout.manifest.layers[1].digest}` })]);
    truncateSync(path, 1000);
    expect((await check(`oci:${copy}`)).problems).toEqual([
      expect.objectContaining({ code: 'SIZE_MISMATCH', field: 'layers[1]' }),
    ]);
  });

  it('in an index that says another platform', async () => {
    const { problems } = await damaged((layout) => {
      const [entry] = layout.index.manifests;
      const index = { schemaVersion: 2, manifests: [{ ...entry, platform: { os: 'linux', architecture: 'arm64' } }] };
      const listed = { mediaType: 'application/vnd.oci.image.index.v1+json', ...layout.put(JSON.stringify(index)) };
      writeFileSync(join(layout.dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [listed] }));
    });
    expect(problems).toEqual([
      expect.objectContaining({ field: 'architecture', message: 'amd64, but arm64 in the index' }),
    ]);
  });

  it('that is not there, or a registry that does not answer, is an error and no report', async () => {
    await expect(check(`oci:${join(dir, 'original')}:nothing`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(check('rafs:/nowhere/bootstrap')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const retry = { attempts: 1 };
    await expect(check('docker://localhost:1/x', { store: { retry } })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
