/** What a check gives back. */
import type { CheckedBlobReport } from './blobs.ts';
import type { Findings, Problem } from './findings.ts';

/** One manifest, or the bare bootstrap, that was checked. */
export interface CheckedImage {
  /** Digest of the manifest, null for bare files. */
  readonly digest: string | null;
  /**
   * `lazy`: bootstrap and blobs; `layers`: an ordinary image; `artifact`: an attestation, signature or chart that an index
   * lists beside images; `unknown`: too damaged to tell.
   */
  readonly kind: 'lazy' | 'layers' | 'artifact' | 'unknown';
  readonly layers: number;
  /** Bytes of all layers as they are stored. */
  readonly layersSize: number;
  readonly inodes: number;
  readonly names: number;
  readonly chunks: number;
  readonly blobs: readonly CheckedBlobReport[];
}

export interface CheckReport {
  readonly reference: string;
  /** Whether all data was read. */
  readonly deep: boolean;
  /** No error was found. */
  readonly ok: boolean;
  readonly errors: number;
  readonly warnings: number;
  /** Problems beyond the bound of the list; they are counted. */
  readonly notListed: number;
  readonly problems: readonly Problem[];
  readonly images: readonly CheckedImage[];
}

export function reportOf(
  reference: string,
  deep: boolean,
  findings: Findings,
  images: readonly CheckedImage[],
): CheckReport {
  const problems = findings.sorted();
  const { errors, warnings } = findings;
  const notListed = errors + warnings - problems.length;
  return { reference, deep, ok: errors === 0, errors, warnings, notListed, problems, images };
}
