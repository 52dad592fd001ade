/** What inspect tells of a tag: an index with what is in it, what points at it, and which manifest is shown. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { putImage, putIndex, putLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const platform = 'linux/amd64';
const skip = needs('addon');

describe('a tag', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-inspect-tag-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it('that is an index has platforms and attestations', async () => {
    const layer = (name: string) => ({ tar: Buffer.concat([member({ name, data: name }), END]) });
    const [amd, arm] = [
      putImage(dir, { layers: [layer('a')] }),
      putImage(dir, { layers: [layer('b')], config: { architecture: 'arm64' } }),
    ];
    const statement = Buffer.from('{}');
    const attestation = putImage(dir, {
      layers: [{ tar: statement, stored: statement, descriptor: { mediaType: 'application/vnd.in-toto+json' } }],
    });
    const index = putIndex(dir, [
      { ...arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
      { ...amd, platform: { os: 'linux', architecture: 'amd64' } },
      {
        ...attestation,
        platform: { os: 'unknown', architecture: 'unknown' },
        annotations: { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': amd.digest },
      },
    ]);
    const { tag, manifest } = await inspect(putLayout(dir, index), { platform });
    expect(manifest!.digest).toBe(amd.digest);
    expect(manifest!.layers.map(({ compression }) => compression)).toEqual(['gzip']);
    expect(tag).toMatchObject({
      kind: 'index',
      digest: index.digest,
      size: index.size,
      shown: 'platform',
      referrers: [],
    });
    expect(tag!.manifests.map(({ digest, platform: of, kind, about }) => [digest, of, kind, about])).toEqual([
      [arm.digest, 'linux/arm64/v8', 'image', null],
      [amd.digest, 'linux/amd64', 'image', null],
      [attestation.digest, null, 'attestation', amd.digest],
    ]);
  });

  it('that is a manifest is what is shown; bare files have none', async () => {
    const { tag, manifest } = await inspect(`oci:${fixture('oci/tame-mini')}:tame-mini-gzip`, { platform });
    expect(tag).toMatchObject({ kind: 'manifest', digest: manifest!.digest, shown: 'named', manifests: [] });
    expect((await inspect(`rafs:${fixture('rafs/default/bootstrap')}`)).tag).toBeNull();
  });

  it.skipIf(skip.reason)(
    'with a lazy image that refers to it says that this is shown, and what is not used',
    async () => {
      const target = join(dir, 'referrer');
      const shared = member({ name: 'gone', data: 'x'.repeat(100_000) });
      const layers = [
        Buffer.concat([shared, member({ name: 'kept', data: 'y' }), END]),
        Buffer.concat([member({ name: '.wh.gone' }), END]),
      ];
      const original = putImage(target, { layers: layers.map((tar) => ({ tar })) });
      const reference = putLayout(target, original);
      await convert(reference, reference, { as: 'referrer', compressor: 'none' });
      const { tag, manifest, bootstrap } = await inspect(reference, { platform });
      expect(tag).toMatchObject({ kind: 'manifest', digest: original.digest, shown: 'referrer' });
      expect(tag!.referrers).toMatchObject([{ digest: manifest!.digest, subject: original.digest }]);
      expect(bootstrap!.blobs[0]!.unusedCompressed).toBeGreaterThanOrEqual(100_000);
      const itself = await inspect(reference, { platform, referrers: false });
      expect(itself.manifest!.digest).toBe(original.digest);
      expect(itself.tag).toMatchObject({ shown: 'named', referrers: null });
    },
  );
});
