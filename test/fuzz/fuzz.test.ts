/** A short run of the fuzz targets, always the same one, and every input that once showed a fault. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { needs } from '../kit/skip.ts';
import { fuzz, judge, MAX_GROWTH } from './run.ts';
import { makeTargets, type Target } from './targets.ts';

const RUNS = 10_000;
const REGRESSIONS = fileURLToPath(new URL('regressions', import.meta.url));
const folders = existsSync(REGRESSIONS) ? readdirSync(REGRESSIONS) : [];
const inputs = folders.flatMap((folder) => readdirSync(join(REGRESSIONS, folder)).map((name) => join(folder, name)));

const skip = needs('zstd-napi', '@napi-rs/blake-hash');

describe.skipIf(skip.reason)('decoders of untrusted bytes', () => {
  let targets: Target[];
  beforeAll(async () => {
    targets = await makeTargets();
  });

  it('take mutated documents without a fault', async () => {
    const report = await fuzz(targets, RUNS, 20_261_124);
    expect(report.faults.map(({ target, problem }) => `${target}: ${problem}`)).toEqual([]);
    expect(report.growth).toBeLessThan(MAX_GROWTH);
    for (const { name } of targets) {
      const [runs, refused] = [report.executions.get(name)!, report.refused.get(name) ?? 0];
      // Mutations that are all refused at the door, or none, would test nothing.
      expect(refused, `${name} refuses none of ${runs}`).toBeGreaterThan(0);
      expect(refused, `${name} refuses all of ${runs}`).toBeLessThan(runs);
    }
  });

  it.each(inputs)('take %s, which once showed a fault', async (path) => {
    const target = targets.find(({ name }) => name.replaceAll(' ', '-') === path.split('/')[0]);
    expect(await judge(target!, readFileSync(join(REGRESSIONS, path)))).toBeNull();
  });
});
