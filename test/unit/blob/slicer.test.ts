/** The stream of a ranged request is cut right wherever the network happened to cut it. */
import { expect, it } from 'vitest';
import { planRuns, type Span } from '../../../src/blob/planner.ts';
import { Slicer } from '../../../src/blob/slicer.ts';

const blob = Buffer.from(Array.from({ length: 997 }, (_, index) => (index * 31) & 0xff));
const spans: Span[] = [
  { offset: 100, size: 50 },
  { offset: 150, size: 1 },
  { offset: 160, size: 300 },
  { offset: 500, size: 20 },
];
const [run] = planRuns(spans);

it.each([1, 2, 7, 49, 50, 51, 64, 1000])('pieces of %i bytes', (length) => {
  const slicer = new Slicer(run!);
  const stream = blob.subarray(run!.offset, run!.offset + run!.size);
  const whole: Span[] = [];
  for (let at = 0; at < stream.length; at += length) {
    expect(slicer.rest).toEqual(spans.slice(whole.length));
    for (const { span, bytes } of slicer.push(stream.subarray(at, at + length))) {
      whole.push(span);
      expect(bytes).toEqual(blob.subarray(span.offset, span.offset + span.size));
      // Given out with the very piece that completed it.
      expect(span.offset + span.size).toBeGreaterThan(run!.offset + at);
    }
  }
  expect(whole).toEqual(spans);
  expect(slicer.rest).toEqual([]);
});

it('bytes beyond the request are ignored, and a cut leaves what is not whole', () => {
  const slicer = new Slicer(run!);
  const stream = blob.subarray(run!.offset);
  expect([...slicer.push(stream.subarray(0, 55))].map(({ span }) => span)).toEqual(spans.slice(0, 2));
  expect(slicer.rest).toEqual(spans.slice(2));
  expect([...slicer.push(stream.subarray(55))].map(({ span }) => span)).toEqual(spans.slice(2));
  expect([...slicer.push(stream)]).toEqual([]);
});
