/** Several processes that read a mounted tree at once, each in an order of its own. */
import { fileURLToPath } from 'node:url';
import { run } from './process.ts';
import type { Row } from './tree.ts';

const PROGRAM = fileURLToPath(new URL('./readers.py', import.meta.url));

/** Path (hex of its bytes) → sha256 of every regular file, as each of `count` processes has read it piece by piece. */
export async function readAtRandom(directory: string, count: number): Promise<ReadonlyMap<string, string>[]> {
  const seeds = Array.from({ length: count }, (_, seed) => `${seed}`);
  const outputs = await Promise.all(seeds.map((seed) => run('python3', [PROGRAM, directory, seed])));
  return outputs.map(
    ({ stdout }) =>
      new Map(stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.split('\t') as [string, string]]))),
  );
}

/** The same of expected rows. */
export const digestsOf = (rows: readonly Row[]): ReadonlyMap<string, string> =>
  new Map(
    rows.flatMap(({ path, path_b64, sha256 }) => {
      const bytes = path === undefined ? Buffer.from(path_b64!, 'base64') : Buffer.from(path);
      return sha256 === undefined ? [] : [[bytes.toString('hex'), sha256] as const];
    }),
  );
