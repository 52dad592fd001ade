/** Every image of the fixtures, converted, is the tree that the truth says; the same bytes wherever it comes from. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { readConverted, readLayoutBlob, refDigest } from '../../kit/converted.ts';
import { fixture } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { digestOf } from '../../kit/source-image.ts';
import { diffTrees, type Row, readRows } from '../../kit/tree.ts';

const skip = needs('addon');

const IMAGES = [
  ['nasty-mini', 'nasty-mini-gzip'],
  ['nasty-mini', 'nasty-mini-zstd'],
  ['nasty-mini', 'nasty-mini-zstd-multi'],
  ['nasty-mini', 'nasty-mini-noglobal-gzip'],
  ['tame-mini', 'tame-mini-gzip'],
  ['tame-mini', 'tame-mini-zstd'],
] as const;

const source = (tree: string, ref: string): string => `oci:${fixture('oci', tree)}:${ref}`;

async function rows(reference: string): Promise<Row[]> {
  const found: Row[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) found.push(row);
  return found;
}

describe.skipIf(skip.reason)('the images of the fixtures, converted', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-fixtures-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(IMAGES)('%s, %s: no difference', async (tree, ref) => {
    const target = `oci:${join(dir, ref)}:lazy`;
    const { digest, images } = await convert(source(tree, ref), target);
    const found = await rows(target);
    expect(diffTrees(readRows(fixture(`truth/${tree}.merged.jsonl`)), found)).toEqual([]);
    expect(found.every((row) => row.type !== 'reg' || row.sha256 !== undefined)).toBe(true);
    expect(refDigest(join(dir, ref), 'lazy')).toBe(digest);
    expect(images).toHaveLength(1);
    expect(images[0]!.layers).toHaveLength(3);
    const { manifest } = readConverted(join(dir, ref), digest);
    for (const layer of manifest.layers) {
      const data = readLayoutBlob(join(dir, ref), layer.digest);
      expect([digestOf(data), data.length]).toEqual([layer.digest, layer.size]);
    }
  });

  it('uncompressed layers give the blobs of the same layers compressed', async () => {
    const target = join(dir, 'plain');
    const plain = await convert(source('tame-mini', 'tame-mini-plain-layers-2-3'), `oci:${target}:lazy`);
    const gzip = await convert(source('tame-mini', 'tame-mini-gzip'), `oci:${target}:gzip`);
    const zstd = await convert(source('tame-mini', 'tame-mini-zstd'), `oci:${target}:zstd`);
    const blobs = ({ images }: typeof plain) => images[0]!.layers.map(({ blob }) => blob);
    expect(blobs(plain)).toEqual(blobs(gzip).slice(1));
    expect(blobs(zstd)).toEqual(blobs(gzip));
    expect(blobs(gzip).every((blob) => blob !== null)).toBe(true);
    const [layers] = plain.images;
    expect(
      diffTrees(await rows(`${source('tame-mini', 'tame-mini-plain-layers-2-3')}`), await rows(`oci:${target}:lazy`)),
    ).toEqual([]);
    expect(layers!.platform).toBe('linux/amd64');
  });

  it('registry or layout, from and to: the same digest', async () => {
    await using registry = await startRegistry();
    registry.storage.putLayout('tame', fixture('oci/tame-mini'));
    const registrySource = `docker://${registry.host}/tame:tame-mini-gzip`;
    const layoutSource = source('tame-mini', 'tame-mini-gzip');
    const digests = [
      await convert(layoutSource, `oci:${join(dir, 'a')}:lazy`),
      await convert(registrySource, `oci:${join(dir, 'b')}:lazy`),
      await convert(layoutSource, `docker://${registry.host}/lazy:c`),
      await convert(registrySource, `docker://${registry.host}/tame:d`),
    ].map(({ digest }) => digest);
    expect(new Set(digests).size).toBe(1);
    expect(registry.storage.repository('lazy').tags.get('c')).toBe(digests[0]);
    expect(registry.uploads.open).toBe(0);
    const truth = readRows(fixture('truth/tame-mini.merged.jsonl'));
    expect(diffTrees(truth, await rows(`docker://${registry.host}/lazy:c`))).toEqual([]);
  });

  it('the bytes of a pinned image do not change', async () => {
    const { digest } = await convert(source('tame-mini', 'tame-mini-gzip'), `oci:${join(dir, 'pinned')}:lazy`);
    // A change means that every image in every registry would be converted, pushed and cached anew: have a reason.
    // The config names all bytes of blobs and bootstrap; what gzip makes of the bootstrap is zlib's.
    const { manifest } = readConverted(join(dir, 'pinned'), digest);
    expect(manifest.config.digest).toBe('sha256:08a873350cddeec9bad481f487fc0541f5608cd139b904f5d66e000c28736cba');
  });
});
