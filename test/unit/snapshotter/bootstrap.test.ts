import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/image/digest.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { readBootstrapLayer } from '../../../src/snapshotter/bootstrap.ts';
import { layoutBlob } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';

const LAYER = 'sha256:16f13e3b71e33e4e7ec25e0fa76b4f725138e9d661608901989af51fc84de4fe';
const DIFF_ID = 'sha256:f1fde63ec2f109e298d1f7c2ee556dc00bac2320b4ed354ca6d4a620440fc4aa';
const GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

const skip = needs('addon', 'tar');

describe.skipIf(skip.reason)('the bootstrap of a layer', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lacuna-bootstrap-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  /** The layer through a real registry. */
  async function read(bytes: Buffer, mediaType = GZIP, patch: Partial<Descriptor> = {}) {
    await using registry = await startRegistry();
    const layer = { ...registry.storage.putBlob('r', bytes, mediaType), ...patch };
    const reference = parseReference(`${registry.host}/r:x`);
    await using store: ImageStore = await openStore(reference, { retry: { attempts: 1 } });
    return await readBootstrapLayer(store, layer);
  }

  test("of nydusify's image is the file that tar takes out, and the diffID that of its config", async () => {
    const bytes = layoutBlob('nydus-oci/index', LAYER);
    const expected = execFileSync('tar', ['-xzO', 'image/image.boot'], { input: bytes, maxBuffer: 1 << 28 });
    const { bootstrap, diffId } = await read(bytes);
    expect(bootstrap.equals(expected)).toBe(true);
    expect(diffId).toBe(DIFF_ID);
    const plain = await read(gunzipSync(bytes), 'application/vnd.oci.image.layer.v1.tar');
    expect(plain.bootstrap.equals(expected)).toBe(true);
    expect(plain.diffId).toBe(DIFF_ID);
  });

  const tarOf = (script: string): Buffer =>
    execFileSync('sh', ['-euc', `cd "$(mktemp -d -p ${directory})"; ${script}`], { maxBuffer: 1 << 28 });

  test.each<[string, () => Promise<unknown>, string]>([
    ['without one', () => read(gzipSync(tarOf('mkdir image; echo x > image/other; tar -c image'))), 'FORMAT'],
    [
      'that is a link',
      () => read(gzipSync(tarOf('mkdir image; ln -s /etc/passwd image/image.boot; tar -c .'))),
      'FORMAT',
    ],
    ['cut off', () => read(layoutBlob('nydus-oci/index', LAYER).subarray(0, 20_000)), 'FORMAT'],
    ['that is no gzip', () => read(Buffer.from('hello')), 'FORMAT'],
    ['of another digest', () => read(gzipSync('x'), GZIP, { digest: digestOf(Buffer.from('y')) }), 'NOT_FOUND'],
    ['of an unknown type', () => read(gzipSync('x'), 'application/vnd.oci.image.layer.nydus.blob.v1'), 'UNSUPPORTED'],
  ])('%s is refused', async (_name, reading, code) => {
    await expect(reading()).rejects.toMatchObject({ code });
  });

  test('a body that does not hash to the digest is refused', async () => {
    await using registry = await startRegistry({ fault: () => ({ kind: 'wrong-bytes', at: 29_000 }) });
    const layer = registry.storage.putBlob('r', layoutBlob('nydus-oci/index', LAYER), GZIP);
    await using store = await openStore(parseReference(`${registry.host}/r:x`), { retry: { attempts: 1 } });
    await expect(readBootstrapLayer(store, layer)).rejects.toMatchObject({
      code: expect.stringMatching(/^(FORMAT|DIGEST_MISMATCH)$/),
    });
  });
});
