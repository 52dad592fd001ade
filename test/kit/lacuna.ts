/** Lacuna as a user runs it: the built command line, in processes of its own. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '#cache';
import { unmountBelow } from './mounts.ts';
import { type Finished, type Running, type RunOptions, run, start, waitUntil } from './process.ts';

/** Arguments for Node that run the command line; `lacunaArgs('doctor')` is `npx lacuna doctor`. */
export const lacunaArgs = (...args: string[]): string[] => [join(checkout, 'dist', 'cli', 'main.js'), ...args];

/** Runs a command to its end. */
export const lacuna = (args: readonly string[], options: RunOptions = {}): Promise<Finished> =>
  run(process.execPath, lacunaArgs(...args), options);

export interface Snapshotter extends AsyncDisposable {
  /** Lacuna's root, with daemon, holder and cache. */
  readonly root: string;
  /** Socket for containerd. */
  readonly address: string;
  readonly process: Running;
}

/** Starts `lacuna snapshotter` under `dir`; disposing of it takes daemon, holder and mounts down as well. */
export async function startSnapshotter(dir: string, env: NodeJS.ProcessEnv = {}): Promise<Snapshotter> {
  const root = join(dir, 'root');
  const address = join(dir, 's.sock');
  const program = start(process.execPath, lacunaArgs('snapshotter', '--root', root, '--address', address), env);
  await waitUntil(program, 'lacuna snapshotter', () => existsSync(address));
  return {
    root,
    address,
    process: program,
    async [Symbol.asyncDispose]() {
      await program.stop();
      await lacuna(['cleanup', '--root', root], { timeout: 60_000 }).finally(() => unmountBelow(dir));
    },
  };
}
