/** `npm run fuzz -- --runs N [--seed S]`: a long run. Inputs that show a fault are written to `test/fuzz/regressions`. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuzz } from './run.ts';
import { makeTargets } from './targets.ts';

const { values } = parseArgs({ options: { runs: { type: 'string' }, seed: { type: 'string' } } });
const runs = Number(values.runs ?? 100_000);
const seed = Number(values.seed ?? 1);
const begin = performance.now();
const report = await fuzz(await makeTargets(), runs, seed);
for (const [name, count] of report.executions) {
  const each = Math.round((report.time.get(name)! / count) * 1000);
  console.log(
    `${name.padEnd(24)} ${String(count).padStart(9)} runs, ${report.refused.get(name) ?? 0} refused, ${each} µs each`,
  );
}
const total = [...report.executions.values()].reduce((sum, count) => sum + count, 0);
const seconds = Math.round((performance.now() - begin) / 1000);
const growth = Math.round(report.growth / 2 ** 20);
console.log(
  `seed ${seed}: ${total} executions in ${seconds} s, slowest ${report.slowest.toFixed(0)} ms, ${growth} MiB more`,
);
for (const { target, input, problem } of report.faults) {
  const folder = join('test/fuzz/regressions', target.replaceAll(' ', '-'));
  const path = join(folder, createHash('sha256').update(input).digest('hex').slice(0, 16));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, input);
  console.log(`\n${target}: ${problem}\n${path}`);
}
process.exitCode = report.faults.length === 0 ? 0 : 1;
