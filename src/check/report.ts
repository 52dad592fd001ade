/** The result of a check. */
import type { CheckedBlobReport } from './blobs.ts';
import type { Findings, Problem } from './findings.ts';

/** One checked manifest, or the bootstrap of local files. */
export interface CheckedImage {
  /** Digest of the manifest; null for local files. */
  readonly digest: string | null;
  /**
   * `lazy`: bootstrap and blobs; `layers`: an ordinary image; `artifact`: an attestation, signature or chart that an index
   * lists beside images; `unknown`: the manifest is too damaged to tell.
   */
  readonly kind: 'lazy' | 'layers' | 'artifact' | 'unknown';
  /** Number of layers in the manifest. */
  readonly layers: number;
  /** Total size of all layers as stored, in bytes. */
  readonly layersSize: number;
  /** Number of inodes that were checked. */
  readonly inodes: number;
  /** Number of directory entries that were checked. */
  readonly names: number;
  /** Number of chunks that were checked. */
  readonly chunks: number;
  /** The blobs of a lazy image, in the order of its blob table. */
  readonly blobs: readonly CheckedBlobReport[];
}

/** The result of {@link check}. */
export interface CheckReport {
  /** The reference of the image, as the caller gave it. */
  readonly reference: string;
  /** Whether all data was read. */
  readonly deep: boolean;
  /** Whether no error was found. */
  readonly ok: boolean;
  /** Number of errors, listed or not. */
  readonly errors: number;
  /** Number of warnings, listed or not. */
  readonly warnings: number;
  /** Number of problems that were counted but not listed, since the list was full. */
  readonly notListed: number;
  /** The problems in the order in which they were found, up to the maximum of the list. */
  readonly problems: readonly Problem[];
  /** Every manifest that was checked. */
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
