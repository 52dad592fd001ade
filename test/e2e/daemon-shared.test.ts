/** Images that share blobs: what they agree on is fetched once, and what one of them lies about harms only itself. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../src/formats/rafs/write.ts';
import { type FileChunk, plainChunk } from '../../src/tree/node.ts';
import { DaemonFixture, dropPageCache, makeFlatImage, noise } from '../kit/daemon-fixture.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { type LoggedRequest, startRegistry, type TestRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const KIB = 1024;
const CHUNK = 16 * KIB;

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(skip.reason)('images that share a blob', () => {
  let room: DaemonFixture;
  let registry: TestRegistry;
  beforeEach(async () => {
    room = await DaemonFixture.start('window = "0B"\ndeadline = "1500ms"');
    registry = await startRegistry();
  });
  afterEach(async () => {
    await room[Symbol.asyncDispose]();
    await registry.close();
  });

  /** Puts the blobs that lie in `dir` into a repository. */
  function serve(dir: string, repository: string) {
    for (const name of readdirSync(dir)) {
      if (/^[0-9a-f]{64}$/.test(name)) registry.storage.putBlob(repository, readFileSync(join(dir, name)));
    }
    return [{ registry: { host: registry.host, repository } }];
  }

  it('fetch each byte of it once, read one after the other or at the same time', async () => {
    const [one, all] = [fixture('rafs/default'), fixture('rafs/merged')];
    const [first, second] = [serve(one, 'one/layer'), serve(all, 'all/layers')];
    const shared = readdirSync(one).find((name) => name.length === 64)!;
    expect(readdirSync(all)).toContain(shared);
    const truth = (name: string) => readRows(fixture(`truth/${name}.merged.jsonl`));

    for (const isTogether of [false, true]) {
      registry.requests.length = 0;
      const a = await room.mount(`one-${isTogether}`, join(one, 'bootstrap'), first);
      const b = await room.mount(`all-${isTogether}`, join(all, 'bootstrap'), second);
      const trees = isTogether ? await Promise.all([walk(a), walk(b)]) : [await walk(a), await walk(b)];
      expect(diffTrees(truth('tame-mini.only-layer1'), trees[0]!, { time: nydusImageTime })).toEqual([]);
      expect(diffTrees(truth('tame-mini'), trees[1]!, { time: nydusImageTime })).toEqual([]);
      const asked = registry.requests.filter(({ path }) => path.endsWith(shared));
      expect(asked.length).toBeGreaterThan(0);
      expect(twice(asked)).toEqual([]);
      const before = registry.requests.length;
      await dropPageCache();
      await Promise.all([walk(a), walk(b)]);
      expect(registry.requests.length).toBe(before);
      for (const id of [`one-${isTogether}`, `all-${isTogether}`]) await room.unmount(id);
      expect(readdirSync(join(room.root, 'cache')).filter((name) => name.length === 64)).toEqual([]);
    }
  });

  describe('and one of them lies', () => {
    const files = { first: noise(1, CHUNK), second: noise(2, CHUNK), third: noise(3, 5 * CHUNK) };

    /** The honest image, and one that names its blob with every chunk as `lie` tells it. */
    async function twoImages(lie: (chunk: FileChunk, all: readonly FileChunk[]) => FileChunk) {
      const honest = await makeFlatImage(files, CHUNK, room.folder('honest'));
      const image = openBootstrap(readFileSync(honest.bootstrap), { subject: 'honest' });
      const root = image.root();
      const nodes = [...root.children!.values()];
      const all = nodes.flatMap((node) => [...node.chunks]);
      for (const node of nodes) node.chunks = node.chunks.map((chunk) => lie(chunk, all));
      const options = { chunkSize: CHUNK, compressor: 3, digester: 0 } as const;
      const dir = room.folder('liar');
      writeFileSync(join(dir, 'bootstrap'), writeBootstrap(root, image.blobs, options));
      const sources = serve(honest.dir, 'shared/blob');
      const mountHonest = () => room.mount('honest', honest.bootstrap, sources);
      const mountLiar = () => room.mount('liar', join(dir, 'bootstrap'), sources);
      return { mountHonest, mountLiar };
    }

    const read = (target: string, name: string) =>
      run('sha256sum', [join(target, name)]).then(
        ({ stdout }) => stdout.slice(0, 64),
        (error: Error) => /Input\/output error/.exec(error.message)?.[0] ?? error.message,
      );
    const readAll = async (target: string) =>
      Object.fromEntries(
        await Promise.all(Object.keys(files).map(async (name) => [name, await read(target, name)] as const)),
      );
    const TRUTH = Object.fromEntries(Object.entries(files).map(([name, content]) => [name, sha256(content)]));
    const FAILURE = Object.fromEntries(Object.keys(files).map((name) => [name, 'Input/output error']));

    it.each(['liar first', 'honest first', 'together'])('about digests: %s', { timeout: 90_000 }, async (order) => {
      const { mountHonest, mountLiar } = await twoImages((chunk) => plainChunk(chunk, { digest: Buffer.alloc(32, 1) }));
      const [honest, liar] = [await mountHonest(), await mountLiar()];
      const results: Record<string, unknown> = {};
      const reading = {
        honest: async () => (results.honest = await readAll(honest)),
        liar: async () => (results.liar = await readAll(liar)),
      };
      if (order === 'together') await Promise.all([reading.honest(), reading.liar()]);
      else if (order === 'liar first') await reading.liar().then(reading.honest);
      else await reading.honest().then(reading.liar);
      expect(results).toEqual({ honest: TRUTH, liar: FAILURE });
      await dropPageCache();
      expect(await readAll(honest)).toEqual(TRUTH);
    });

    it.each(['liar first', 'honest first'])('about where chunks belong: %s', async (order) => {
      // True bytes with true digests, at each other's places: verified, and yet not what the honest image has there.
      const swap = (chunk: FileChunk, all: readonly FileChunk[]): FileChunk => {
        const other = all[all.length - 1 - all.indexOf(chunk)]!;
        const { compressedOffset, compressedSize, compressor, digest, crc32c } = other;
        return plainChunk(chunk, { compressedOffset, compressedSize, compressor, digest, crc32c });
      };
      const { mountHonest, mountLiar } = await twoImages(swap);
      const mounts = { honest: await mountHonest(), liar: await mountLiar() };
      const whole = Buffer.concat(Object.values(files));
      const chunks = Array.from({ length: whole.length / CHUNK }, (_, i) => whole.subarray(i * CHUNK, (i + 1) * CHUNK));
      const swapped = Buffer.concat(chunks.toReversed());
      const claimed = {
        first: sha256(swapped.subarray(0, CHUNK)),
        second: sha256(swapped.subarray(CHUNK, 2 * CHUNK)),
        third: sha256(swapped.subarray(2 * CHUNK)),
      };
      for (const who of order === 'liar first' ? (['liar', 'honest'] as const) : (['honest', 'liar'] as const)) {
        expect(await readAll(mounts[who])).toEqual(who === 'honest' ? TRUTH : claimed);
      }
      await dropPageCache();
      expect(await readAll(mounts.honest)).toEqual(TRUTH);
      expect(await readAll(mounts.liar)).toEqual(claimed);
    });

    it('about the place of the blob: what is elsewhere is not taken for it', async () => {
      const honest = await makeFlatImage(files, CHUNK, room.folder('honest'));
      const target = await room.mount('honest', honest.bootstrap, serve(honest.dir, 'shared/blob'));
      const elsewhere = room.folder('elsewhere');
      const [blob] = readdirSync(honest.dir).filter((name) => name.length === 64);
      writeFileSync(join(elsewhere, blob!), Buffer.alloc(readFileSync(join(honest.dir, blob!)).length, 0x5a));
      mkdirSync(join(room.dir, 'copy'));
      const copy = join(room.dir, 'copy', 'bootstrap');
      writeFileSync(copy, readFileSync(honest.bootstrap));
      const other = await room.mount('elsewhere', copy, [{ directory: { path: elsewhere } }]);
      // It has but its own place; what has come from a right one is in the cache of all.
      expect(await readAll(other)).toEqual(FAILURE);
      expect(await readAll(target)).toEqual(TRUTH);
      await dropPageCache();
      expect(await readAll(other)).toEqual(TRUTH);
    });
  });
});

/** Ranges that begin before an earlier one has ended: bytes that were sent more than once. */
function twice(requests: readonly LoggedRequest[]): string[] {
  const ranges = requests
    .map(({ headers }) => /^bytes=(\d+)-(\d+)$/.exec(String(headers.range))!.slice(1).map(Number) as [number, number])
    .toSorted((a, b) => a[0] - b[0]);
  return ranges.flatMap(([start], index) => {
    const before = ranges[index - 1];
    return before !== undefined && start <= before[1] ? [`${start} again`] : [];
  });
}
