/** The result of one probe. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toLacunaError } from '../errors.ts';

/** Result of one probe of {@link doctor}. */
export interface ProbeResult {
  /** Name of the attempt, e.g. `overlay on erofs`. */
  readonly name: string;
  /** `missing`: it is not there; `refused`: it is there and does not work, or may not be tried. */
  readonly status: 'ok' | 'missing' | 'refused';
  /** The reason for the status, and what does not work without it. */
  readonly why: string;
  /** Advice for the user; null when nothing needs to be done. */
  readonly hint: string | null;
}

/** The result of a probe; an unexpected failure is `refused` with its error. */
export type Finding = Omit<ProbeResult, 'name'>;

export const ok = (why: string): Finding => ({ status: 'ok', why, hint: null });
export const missing = (why: string, hint: string): Finding => ({ status: 'missing', why, hint });
export const refused = (why: string, hint: string | null = null): Finding => ({ status: 'refused', why, hint });

/** Longest time of one probe, in milliseconds: something that hangs is a finding, too. */
const PATIENCE = 10_000;

export async function row(name: string, probe: () => Promise<Finding> | Finding): Promise<ProbeResult> {
  const timer = new AbortController();
  const late = sleep(PATIENCE, refused(`no answer within ${PATIENCE / 1000} s`), { signal: timer.signal });
  try {
    return { name, ...(await Promise.race([Promise.resolve().then(probe), late])) };
  } catch (error) {
    const { message, hint } = toLacunaError(error);
    return { name, ...refused(message, hint ?? null) };
  } finally {
    timer.abort();
    late.catch(() => {});
  }
}
