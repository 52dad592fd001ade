#!/usr/bin/env node
/** `npm run trees -- [--count N] [--seed N]`: the property test of random trees with more of them, gently. */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { count: { type: 'string', default: '20000' }, seed: { type: 'string', default: '1' } },
});
const started = Date.now();
const { status } = spawnSync(
  'nice',
  ['-n', '15', 'npx', 'vitest', 'run', '--project', 'fast', '--reporter', 'dot', 'test/oracle/random-trees.test.ts'],
  { stdio: 'inherit', env: { ...process.env, LACUNA_TREES: values.count, LACUNA_SEED: values.seed } },
);
console.log(
  `${values.count} trees from seed ${values.seed}: ${status === 0 ? 'no difference' : 'FAILED'}, ${Math.round((Date.now() - started) / 1000)} s`,
);
process.exit(status ?? 1);
