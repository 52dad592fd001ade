/**
 * Tests what works on this machine for `lacuna doctor`. Works without root and without the addon,
 * and leaves nothing mounted. The probes are in `probe-kernel.ts` and `probe-programs.ts`.
 */
import { probeImages } from './probe-images.ts';
import { type ProbeOptions, probeKernel } from './probe-kernel.ts';
import { probeOptional, probeParts, probePrograms } from './probe-programs.ts';
import type { ProbeResult } from './probe-result.ts';

export type { ProbeOptions, ProbeResult };

/** Tries everything; never throws. */
export async function probe(options: ProbeOptions = {}): Promise<ProbeResult[]> {
  const images = options.folder === undefined ? [] : probeImages(options.folder);
  const found = await Promise.all([probeParts(), probeKernel(options), probeOptional(), probePrograms(), images]);
  return found.flat();
}

/** Rows without which a lazy image cannot be mounted; of each group one is enough. */
const NEEDED: readonly (readonly string[])[] = [
  ['node'],
  ['root'],
  ['addon'],
  ['holder'],
  ['erofs by file', 'erofs over loop'],
  ['fuse'],
  ['overlay on erofs'],
];

/** The result of {@link doctor}. */
export interface Diagnosis {
  /** Lazy images can be mounted and run here. */
  readonly ok: boolean;
  /** One row for each probe. */
  readonly rows: readonly ProbeResult[];
}

/** {@link probe} and its conclusion. */
export async function doctor(options: ProbeOptions = {}): Promise<Diagnosis> {
  const rows = await probe(options);
  return { ok: canMount(rows), rows };
}

export function canMount(rows: readonly ProbeResult[]): boolean {
  const works = new Set(rows.filter(({ status }) => status === 'ok').map(({ name }) => name));
  return NEEDED.every((names) => names.some((name) => works.has(name)));
}

/** Whether a lazy image can be mounted without this row, all others given. */
export const isOptional = (name: string, rows: readonly ProbeResult[]): boolean => {
  const group = NEEDED.find((names) => names.includes(name));
  return group === undefined || rows.some((other) => group.includes(other.name) && other.status === 'ok');
};
