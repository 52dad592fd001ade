/** zstd frames that are sound and ask for more than a decoder has to give. */
import { describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/image/manifest.ts';
import { addon } from '../../src/native/addon.ts';
import { nativeCodec, portableCodec } from '../../src/native/codec.ts';
import { parseLayerTar } from '../../src/reader/layer-stream.ts';
import { needs } from '../kit/skip.ts';

const frame = (...fields: number[]): Buffer =>
  Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, ...fields]), Buffer.alloc(64)]);
const frames: ReadonlyArray<readonly [string, Buffer, RegExp]> = [
  ['a window of 256 MiB', frame(0, 0x90), /a window of more than 128 MiB/],
  ['a dictionary', frame(1, 0x38, 7), /compressed with a dictionary/],
];

describe.skipIf(needs('addon').reason)('a zstd layer with', () => {
  it.each(frames)('%s is not supported, and named', async (_, bytes, message) => {
    const layer: Descriptor = {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd',
      digest: `sha256:${'3'.repeat(64)}`,
      size: bytes.length,
    };
    async function* open() {
      yield bytes;
    }
    const reading = parseLayerTar({ open }, layer, { entry() {}, content: (_b, _s, available) => available });
    await expect(reading).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      subject: layer.digest,
      message: expect.stringMatching(message),
    });
  });
});

describe.skipIf(needs('addon', 'zstd-napi').reason)('zstd with', () => {
  it.each(frames)('%s is the same to both codecs', (_, bytes, message) => {
    for (const codec of [nativeCodec(addon()), portableCodec()]) {
      expect(() => codec.zstdDecompress(bytes, 1000)).toThrowError(
        expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(message) }),
      );
    }
  });
});
