/** A registry that goes wrong while an image is converted: what is recovered from, what the error says, what is left. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import type { StoreOptions } from '../../../src/registry/store.ts';
import { filesOf } from '../../kit/converted.ts';
import { dockerRegistry } from '../../kit/docker-registry.ts';
import { noise } from '../../kit/random.ts';
import { type FaultHook, type LoggedRequest, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import type { Fault } from '../../kit/registry-faults.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');

const QUICK: StoreOptions = { retry: { attempts: 4, minDelay: 1, maxDelay: 4, maxRetryAfter: 2000 } };
const MIB = 1024 * 1024;

const isBlob = ({ method, path }: LoggedRequest): boolean => method === 'GET' && /\/blobs\/sha256/.test(path);
const isPatch = ({ method }: LoggedRequest): boolean => method === 'PATCH';

describe.skipIf(skip.reason)('converting at a registry that fails', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-registry-'));
  const sourceDir = join(dir, 'source');
  /** The digest and the largest layer of the image. */
  let good: { digest: string; layer: string };
  let registry: TestRegistry;
  let options: ConvertOptions;
  beforeAll(async () => {
    const tars = [noise(28 * MIB, 1), noise(300_000, 2)].map((data, i) => ({
      tar: Buffer.concat([member({ name: `f${i}`, data }), END]),
    }));
    const source = sourceLayout(sourceDir, { layers: tars });
    const { digest, images } = await convert(source, `oci:${join(dir, 'good')}:lazy`);
    good = { digest, layer: images[0]!.layers[0]!.source };
  });
  beforeEach(() => {
    options = { source: QUICK, target: QUICK };
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  async function withRegistry(fault: FaultHook, body: () => Promise<void>, start = {}): Promise<void> {
    await using started = await startRegistry(start);
    registry = started;
    registry.storage.putLayout('src', sourceDir);
    registry.fault = fault;
    await body();
  }

  const fromRegistry = (target: string) =>
    convert(`docker://${registry.host}/src:image`, `oci:${target}:lazy`, options);
  const toRegistry = () => convert(`oci:${sourceDir}:image`, `docker://${registry.host}/dst:lazy`, options);
  const fresh = (): string => join(mkdtempSync(join(dir, 't-')), 'layout');
  const times = (count: number, match: (request: LoggedRequest) => boolean, fault: Fault): FaultHook => {
    let left = count;
    return (request) => (match(request) && left-- > 0 ? fault : null);
  };

  describe('as the source', () => {
    const recoveries: Array<[string, (layer: (request: LoggedRequest) => boolean) => FaultHook]> = [
      ['bodies that are cut', (layer) => times(3, layer, { kind: 'cut', after: 3 * MIB })],
      ['5xx', (layer) => times(3, layer, { kind: 'status', status: 503 })],
      [
        '429 with Retry-After',
        (layer) => times(1, layer, { kind: 'status', status: 429, headers: { 'retry-after': '1' } }),
      ],
      ['connections that are dropped', (layer) => times(2, layer, { kind: 'drop' })],
      [
        'Range being ignored after a cut',
        (layer) => {
          let nth = 0;
          return (request) =>
            !layer(request) ? null : nth++ === 0 ? { kind: 'cut', after: MIB } : { kind: 'ignore-range' };
        },
      ],
    ];
    it.each(recoveries)('%s: the same image as ever', async (_, hook) => {
      await withRegistry(
        hook((request) => isBlob(request) && request.path.endsWith(good.layer)),
        async () => {
          const target = fresh();
          expect((await fromRegistry(target)).digest).toBe(good.digest);
          expect(filesOf(target)).not.toContain('.lacuna-tmp');
          expect(registry.requests.filter((row) => row.path.endsWith(good.layer)).length).toBeGreaterThan(1);
        },
      );
    });

    it('waits as long as Retry-After says', async () => {
      await withRegistry(
        times(1, isBlob, { kind: 'status', status: 429, headers: { 'retry-after': '1' } }),
        async () => {
          const began = Date.now();
          await fromRegistry(fresh());
          expect(Date.now() - began).toBeGreaterThan(990);
        },
      );
    });

    it('a token that expires in the middle is renewed', async () => {
      const credentials = async () => ({ username: USER, password: PASSWORD });
      options = { source: { ...QUICK, credentials } };
      let cut = false;
      const fault: FaultHook = (request) => {
        if (!isBlob(request) || !request.path.endsWith(good.layer) || cut) return null;
        cut = true;
        // What is asked for next, the rest of the body, is refused with 401.
        setTimeout(() => registry.auth.expireTokens(), 0);
        return { kind: 'cut', after: 2 * MIB };
      };
      const body = async () => {
        expect((await fromRegistry(fresh())).digest).toBe(good.digest);
        expect(registry.requests.filter((row) => row.status === 401).length).toBeGreaterThan(1);
        expect(registry.auth.issued).toBeGreaterThan(1);
      };
      await withRegistry(fault, body, { auth: 'token' });
    });

    const failures: Array<[string, Fault, object]> = [
      ['wrong bytes', { kind: 'wrong-bytes' }, { code: 'FORMAT', message: expect.stringMatching(/gzip|tar|crc/i) }],
      [
        '5xx that does not end',
        { kind: 'status', status: 500 },
        { code: 'UNAVAILABLE', message: expect.stringContaining('answered 500') },
      ],
      [
        '401 without end',
        { kind: 'status', status: 401 },
        { code: 'UNAUTHORIZED', hint: expect.stringContaining('docker login') },
      ],
      [
        '429 that asks for too much patience',
        { kind: 'status', status: 429, headers: { 'retry-after': '3600' } },
        { code: 'RATE_LIMITED' },
      ],
      ['a layer that is gone', { kind: 'status', status: 404 }, { code: 'NOT_FOUND' }],
      ['too many bytes', { kind: 'surplus', bytes: 5 }, { code: 'SIZE_MISMATCH' }],
      ['a body that always ends at the same byte', { kind: 'cut', after: 0 }, { code: 'UNAVAILABLE' }],
    ];
    it.each(failures)('%s: an error, and nothing is left', async (_, fault, expected) => {
      await withRegistry(
        (request) => (isBlob(request) && request.path.endsWith(good.layer) ? fault : null),
        async () => {
          const target = fresh();
          await expect(fromRegistry(target)).rejects.toMatchObject(expected);
          const files = filesOf(target);
          expect(files).not.toContain('index.json');
          expect(files).not.toContain('.lacuna-tmp');
          // The other layer's blob may be there, whole; this one's is not.
          expect(files.filter((file) => /blobs\/sha256\/./.test(file)).length).toBeLessThanOrEqual(1);
        },
      );
    });

    it('wrong bytes in the middle of an uncompressed layer are found by their digest', async () => {
      const source = mkdtempSync(join(dir, 'plain-'));
      const tar = Buffer.concat([member({ name: 'f', data: noise(2 * MIB, 3) }), END]);
      sourceLayout(source, { layers: [{ tar, how: 'none' }] });
      await withRegistry(
        (request) => (isBlob(request) ? { kind: 'wrong-bytes', at: MIB } : null),
        async () => {
          registry.storage.putLayout('plain', source);
          const attempt = convert(`docker://${registry.host}/plain:image`, `oci:${fresh()}:lazy`, options);
          // The config is invalidated, too; it is verified and read anew until patience ends.
          await expect(attempt).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
        },
      );
    });

    it('one that has gone silent does not keep a failed upload waiting', async () => {
      await using sink = await startRegistry({
        fault: (request) => (isPatch(request) ? { kind: 'status', status: 403 } : null),
      });
      await withRegistry(
        (request) => (request.path.endsWith(good.layer) ? { kind: 'stall', after: 26 * MIB } : null),
        async () => {
          const attempt = convert(`docker://${registry.host}/src:image`, `docker://${sink.host}/dst:lazy`, options);
          await expect(attempt).rejects.toMatchObject({ code: 'FORBIDDEN' });
        },
      );
    }, 20_000);
  });

  describe('as the target', () => {
    const lostUpload = (count: number): FaultHook => {
      let left = count;
      const lost = new Set<string>();
      return (request) => {
        // docker-registry 2.8: an upload whose PATCH was cut is unknown from then on.
        if (lost.has(request.path) && request.method !== 'DELETE') return { kind: 'status', status: 404 };
        // What was sent by then is more than is held in memory: of a stream, or of chunks.
        const isStream = request.headers['transfer-encoding'] !== undefined;
        if (!isPatch(request) || request.nth !== (isStream ? 1 : 2) || left-- <= 0) return null;
        lost.add(request.path);
        return { kind: 'cut-request', after: isStream ? 20 * MIB : 1000 };
      };
    };

    it.each([
      ['answers that are lost', (): FaultHook => times(2, isPatch, { kind: 'lost-answer' })],
      ['requests that are cut', (): FaultHook => times(2, isPatch, { kind: 'cut-request', after: 100_000 })],
      ['5xx', (): FaultHook => times(2, (row) => row.method !== 'GET', { kind: 'status', status: 502 })],
      ['429', (): FaultHook => times(2, isPatch, { kind: 'status', status: 429, headers: { 'retry-after': '0' } })],
      ['an upload that the registry has lost', (): FaultHook => lostUpload(1)],
      ['and a second one', (): FaultHook => lostUpload(2)],
    ])('%s: the same image as ever', async (_, hook) => {
      await withRegistry(hook(), async () => {
        expect((await toRegistry()).digest).toBe(good.digest);
        expect(registry.storage.repository('dst').tags.get('lazy')).toBe(good.digest);
        expect(registry.uploads.open).toBe(0);
      });
    });

    it('uploads that are always lost: an error, the tag stays', async () => {
      await withRegistry(lostUpload(100), async () => {
        registry.storage.putManifest('dst', 'application/vnd.oci.image.manifest.v1+json', Buffer.from('{}'), 'lazy');
        const before = registry.storage.repository('dst').tags.get('lazy');
        const error = {
          code: 'UNAVAILABLE',
          message: expect.stringContaining('has lost an upload'),
          hint: 'push again',
        };
        await expect(toRegistry()).rejects.toMatchObject(error);
        expect(registry.storage.repository('dst').tags.get('lazy')).toBe(before);
        expect(registry.requests.filter((row) => row.method === 'POST').length).toBeLessThan(8);
      });
    });

    const failures: Array<[string, FaultHook, object]> = [
      [
        'pushing is forbidden',
        (row) => (row.method === 'POST' ? { kind: 'status', status: 403 } : null),
        { code: 'FORBIDDEN' },
      ],
      ['a chunk is refused', (row) => (isPatch(row) ? { kind: 'status', status: 413 } : null), { code: 'PROTOCOL' }],
      [
        'the manifest is refused',
        (row) => (row.method === 'PUT' && /manifests/.test(row.path) ? { kind: 'status', status: 400 } : null),
        { code: 'PROTOCOL' },
      ],
      ['it is down', (row) => (row.method === 'GET' ? null : { kind: 'drop' }), { code: 'UNAVAILABLE' }],
    ];
    it.each(failures)('%s: the conversion fails and moves no tag', async (_, fault, expected) => {
      await withRegistry(fault, async () => {
        await expect(toRegistry()).rejects.toMatchObject(expected);
        expect(registry.storage.repository('dst').tags.size).toBe(0);
        expect(registry.storage.repository('dst').manifests.size).toBe(0);
        expect(registry.uploads.open).toBe(0);
      });
    });
  });

  it('an abort ends everything at once, and leaves nothing', async () => {
    const stop = new AbortController();
    await withRegistry(
      (row) => (isBlob(row) ? { kind: 'stall', after: 10_000 } : null),
      async () => {
        const target = fresh();
        const running = convert(`docker://${registry.host}/src:image`, `oci:${target}:lazy`, {
          ...options,
          signal: stop.signal,
        });
        setTimeout(() => stop.abort(), 300);
        await expect(running).rejects.toSatisfy(
          (error: { name: string; code: unknown }) => error.name === 'AbortError' || error.code === 'ABORTED',
        );
        expect(filesOf(target)).not.toContain('index.json');
        expect(filesOf(target)).not.toContain('.lacuna-tmp');
      },
    );
  }, 10_000);

  const real = needs('docker-registry');
  it.skipIf(real.reason)('a real registry has what a layout would have', async () => {
    const folder = mkdtempSync(join(dir, 'd-'));
    await using server = await dockerRegistry(folder);
    const { digest } = await convert(`oci:${sourceDir}:image`, `docker://${server.address}/a/lazy:1`);
    expect(digest).toBe(good.digest);
    const link = join(folder, 'data/docker/registry/v2/repositories/a/lazy/_manifests/tags/1/current/link');
    expect(readFileSync(link, 'utf8')).toBe(digest);
  });
});
