/** How the blobs of an image came to the target, in bytes. */
import type { BlobCopy } from '../registry/copy.ts';

/** Bytes, each counted once, by how the target came to have them. */
export interface Transfer {
  /** Made by the conversion and new to the target. */
  readonly uploaded: number;
  /** Made by the conversion, and the target had them. */
  readonly there: number;
  /** Found in the target, made by an earlier conversion: not made again. */
  readonly reused: number;
  /** Taken from another repository of the same registry without moving them. */
  readonly mounted: number;
  /** Original layers and blobs of a dictionary, copied from where they were. */
  readonly copied: number;
}

export type TransferKind = keyof Transfer;

export const NO_TRANSFER: Transfer = { uploaded: 0, there: 0, reused: 0, mounted: 0, copied: 0 };

export const transferOf = (kind: TransferKind | BlobCopy, bytes: number): Transfer => ({
  ...NO_TRANSFER,
  [kind]: bytes,
});

export function sumTransfers(transfers: readonly Transfer[]): Transfer {
  const sum = { ...NO_TRANSFER } as Record<TransferKind, number>;
  for (const transfer of transfers) {
    for (const kind of Object.keys(sum) as TransferKind[]) sum[kind] += transfer[kind];
  }
  return sum;
}
