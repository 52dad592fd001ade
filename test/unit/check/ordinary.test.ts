/** An image that is not lazy, with the attestation that BuildKit puts beside it: what a check says that it looked at. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { check } from '../../../src/check/check.ts';
import type { Progress } from '../../../src/observe/progress.ts';
import { digestOf, putImage, putIndex, putLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const unknown = { os: 'unknown', architecture: 'unknown' };

describe('check of an ordinary image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-check-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it('counts its layers, and takes an attestation for what it is', async () => {
    const tar = Buffer.concat([member({ name: 'a', data: 'a' }), END]);
    const image = putImage(dir, { layers: [{ tar }, { tar, how: 'none' }] });
    const statement = Buffer.from('{"_type":"https://in-toto.io/Statement/v0.1"}');
    const attestation = putImage(dir, {
      layers: [
        {
          tar: statement,
          stored: statement,
          diffId: digestOf(statement),
          descriptor: {
            mediaType: 'application/vnd.in-toto+json',
            annotations: { 'in-toto.io/predicate-type': 'https://slsa.dev/provenance/v0.2' },
          },
        },
      ],
      config: unknown,
    });
    const reference = putLayout(
      dir,
      putIndex(dir, [
        { ...image, platform: { os: 'linux', architecture: 'amd64' } },
        {
          ...attestation,
          platform: unknown,
          annotations: {
            'vnd.docker.reference.type': 'attestation-manifest',
            'vnd.docker.reference.digest': image.digest,
          },
        },
      ]),
    );
    const events: Progress[] = [];
    const report = await check(reference, { deep: true, onProgress: (event) => events.push(event) });
    expect(report.problems).toEqual([]);
    const [checked, beside] = report.images;
    expect(checked).toMatchObject({ kind: 'layers', layers: 2 });
    expect(checked!.layersSize).toBeGreaterThan(tar.length);
    expect(beside).toMatchObject({ kind: 'artifact', layers: 1, blobs: [] });
    expect(events.at(-1)).toMatchObject({ phase: 'check', done: tar.length, total: tar.length, unit: 'bytes' });
  });
});
