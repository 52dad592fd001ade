/** Spans of gzip layers: every chunk comes out of its span, whatever made the layer. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Span, SpanIndex } from '../../../src/convert/spans.ts';
import { addon, findAddon } from '../../../src/native/addon.ts';
import { nativeCodec, portableCodec } from '../../../src/native/codec.ts';
import { needs } from '../../kit/skip.ts';
import { noise, text } from '../native/streams.ts';

const MIB = 1024 * 1024;

/** Indexes `layer` while it is read in pieces of `piece` bytes; chunks of `chunk` bytes with gaps between them. */
async function index(layer: Buffer, content: Buffer, chunk: number, piece: number) {
  const stream = addon().layerStream('indexed-gzip');
  const feeding = (async () => {
    for (let at = 0; at < layer.length; at += piece) await stream.write(layer.subarray(at, at + piece));
    stream.end();
  })();
  const spans = new SpanIndex('a layer');
  const chunks: { at: number; size: number; span: number; offset: number }[] = [];
  const target = Buffer.alloc(MIB);
  for (let [read, next] = [0, 700]; ; ) {
    const length = await stream.read(target, 0);
    spans.add(stream.checkpoints());
    read += length;
    for (; next < read; next += chunk + 512) {
      const size = Math.min(chunk, content.length - next);
      chunks.push({ at: next, size, ...spans.place(next, size) });
    }
    if (length === 0) break;
  }
  await feeding;
  expect(stream.digests().uncompressedSize).toBe(content.length);
  stream.close();
  return { spans: spans.spans(), chunks };
}

const decode = (
  layer: Buffer,
  { inOffset, inSize, outSize, window, bits, byte }: Span,
  kind = nativeCodec(findAddon()!),
) =>
  kind.decodeUnit(layer.subarray(inOffset, inOffset + inSize), {
    size: outSize,
    decoder: { kind: 'zran', window, bits, byte },
  });

/** Of everything: comparing megabytes of windows element by element takes seconds. */
const digestOf = (indexed: object): string => createHash('sha256').update(JSON.stringify(indexed)).digest('hex');

const members = (content: Buffer, size: number): Buffer => {
  const pieces: Buffer[] = [];
  for (let at = 0; at < content.length; at += size) pieces.push(gzipSync(content.subarray(at, at + size)));
  return Buffer.concat(pieces);
};

const mixed = Buffer.concat([text(3 * MIB), noise(2 * MIB), Buffer.alloc(6 * MIB), text(2 * MIB)]);
const LAYERS: [string, Buffer, Buffer][] = [
  ['one member', gzipSync(mixed), mixed],
  ['large members', members(mixed, 3 * MIB), mixed],
  ['many small members', members(mixed, 30_000), mixed],
  ['stored blocks', gzipSync(mixed, { level: 0 }), mixed],
  ['little', gzipSync(text(5000)), text(5000)],
];

describe.skipIf(needs('addon').reason !== null)('spans of a gzip layer', () => {
  it.each(LAYERS)('hold each chunk: %s', async (_, layer, content) => {
    for (const chunk of [100_000, MIB]) {
      const { spans, chunks } = await index(layer, content, chunk, 65_536);
      const plains = await Promise.all(spans.map((span) => decode(layer, span)));
      for (const { at, size, span, offset } of chunks) {
        const plain = plains[span]!.subarray(offset, offset + size);
        expect(plain.equals(content.subarray(at, at + size)), `chunk at ${at}`).toBe(true);
      }
      for (const { inSize, outSize, window } of spans) {
        expect(inSize).toBeLessThan(MIB + chunk + 300_000);
        // A block of zlib's has up to 16383 symbols of up to 258 bytes.
        expect(outSize).toBeLessThan(MIB + chunk + 16_383 * 258);
        expect(window.length).toBeLessThanOrEqual(32_768);
      }
    }
  });

  it('are the same however the layer arrives, and need no windows at the start of members', async () => {
    const [, layer, content] = LAYERS[1]!;
    const first = await index(layer, content, 100_000, layer.length);
    expect(digestOf(await index(layer, content, 100_000, 4321))).toBe(digestOf(first));
    expect(first.spans.some(({ window }) => window.length > 0)).toBe(true);
    const small = await index(LAYERS[2]![1], content, 100_000, 65_536);
    expect(small.spans.every(({ window, bits }) => window.length === 0 && bits === 0)).toBe(true);
  });

  it('are decoded without the addon too', async () => {
    const [, layer, content] = LAYERS[0]!;
    const { spans } = await index(layer, content, 100_000, 65_536);
    expect(spans.some(({ bits }) => bits > 0)).toBe(true);
    for (const span of spans.slice(0, 6)) {
      const plain = content.subarray(span.outOffset, span.outOffset + span.outSize);
      expect((await decode(layer, span, portableCodec())).equals(plain)).toBe(true);
    }
  });

  it('are refused when blocks are too large to be fetched', () => {
    const spans = new SpanIndex('a layer');
    spans.add({
      places: Float64Array.of(10, 0, 0, 0, 0),
      windows: Buffer.alloc(0),
      marks: Float64Array.of(40 * MIB, 80 * MIB),
    });
    spans.place(0, 100);
    expect(() => spans.spans()).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });
});
