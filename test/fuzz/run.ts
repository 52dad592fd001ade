/** Runs fuzz targets and tells what breaks the rules: only LacunaErrors, no second spent on one input, memory bounded. */
import { setImmediate } from 'node:timers/promises';
import { isLacunaError } from '../../src/errors.ts';
import { random } from '../kit/random.ts';
import type { Target } from './targets.ts';

/** Milliseconds of processor time that one input may take; what a loop or a quadratic walk would exceed. */
const MAX_MS = 1000;
/** Bytes that the process may grow by, garbage included. */
export const MAX_GROWTH = 256 * 1024 * 1024;
/** Executions between two looks at the memory, and between two rests in which what native code holds is let go. */
const LOOK_EVERY = 2000;
const REST_EVERY = 50;

/** A fault of ours, with the input that shows it. */
interface Fault {
  readonly target: string;
  readonly input: Buffer;
  readonly problem: string;
}

export interface Report {
  readonly executions: ReadonlyMap<string, number>;
  readonly refused: ReadonlyMap<string, number>;
  /** Milliseconds in all. */
  readonly time: ReadonlyMap<string, number>;
  readonly faults: readonly Fault[];
  /** Milliseconds of the slowest input, bytes that memory grew by at most. */
  readonly slowest: number;
  readonly growth: number;
}

/** What is wrong with how `target` takes `input`; null when all is well. `onMs` hears how long it took. */
export async function judge(
  target: Target,
  input: Buffer,
  onMs: (ms: number) => void = () => {},
): Promise<string | null> {
  const begin = process.cpuUsage();
  let problem: string | null = null;
  let refused = false;
  try {
    await target.run(input);
  } catch (error) {
    refused = isLacunaError(error) && error.code !== 'INTERNAL';
    if (!refused) problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  // Not the time of day: a machine that is busy with other things is no fault.
  const { user, system } = process.cpuUsage(begin);
  const ms = (user + system) / 1000;
  onMs(refused ? -ms : ms);
  return problem ?? (ms > MAX_MS ? `took ${Math.round(ms)} ms` : null);
}

/** `runs` executions, shared out among the targets; the same seed makes the same inputs. Stops at `maxFaults`. */
export async function fuzz(targets: readonly Target[], runs: number, seed: number, maxFaults = 10): Promise<Report> {
  const executions = new Map<string, number>();
  const refused = new Map<string, number>();
  const time = new Map<string, number>();
  const faults: Fault[] = [];
  const shares = targets.reduce((sum, { share }) => sum + share, 0);
  const before = process.memoryUsage.rss();
  let [slowest, growth, done] = [0, 0, 0];
  for (const [number, target] of targets.entries()) {
    const pick = random(seed * 1000 + number);
    const count = Math.ceil((runs * target.share) / shares);
    for (let i = 0; i < count && faults.length < maxFaults; i++) {
      const input = target.mutate(target.seeds[pick(target.seeds.length)]!, pick);
      let wasRefused = false;
      let ms = 0;
      const problem = await judge(target, input, (measured) => {
        wasRefused = measured < 0;
        ms = Math.abs(measured);
      });
      slowest = Math.max(slowest, ms);
      time.set(target.name, (time.get(target.name) ?? 0) + ms);
      executions.set(target.name, (executions.get(target.name) ?? 0) + 1);
      if (wasRefused) refused.set(target.name, (refused.get(target.name) ?? 0) + 1);
      if (problem !== null) faults.push({ target: target.name, input, problem });
      done++;
      if (done % REST_EVERY === 0) await setImmediate();
      if (done % LOOK_EVERY === 0) growth = Math.max(growth, process.memoryUsage.rss() - before);
    }
  }
  growth = Math.max(growth, process.memoryUsage.rss() - before);
  return { executions, refused, time, faults, slowest, growth };
}
