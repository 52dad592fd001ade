/** Which structure owns which bytes of a bootstrap: structures must not overlap, and unowned bytes must be zero. */
import { type Bytes, firstNonZero } from './bytes.ts';

/** A range of bytes and the structure that owns it. */
interface Claim {
  readonly start: number;
  readonly size: number;
  /** The field that makes the claim, its offset, and the file that it belongs to. */
  readonly field: string;
  readonly at: number;
  readonly path: string | null;
}

export class ByteOwnership {
  readonly #claims: Claim[] = [];

  /** Records an owner of bytes, which must lie in the file. */
  claim(start: number, size: number, field: string, at: number, path: string | null = null): void {
    if (size > 0) this.#claims.push({ start, size, field, at, path });
  }

  /** Reports overlaps and unowned bytes. `canLeak`: whether unowned bytes may be other than zero. */
  check(bytes: Bytes, canLeak: boolean): void {
    const claims = this.#claims.toSorted((a, b) => a.start - b.start || a.size - b.size);
    let last: Claim | null = null;
    let end = 0;
    for (const claim of claims) {
      if (last !== null && claim.start < end) {
        const what = last.path === null ? last.field : `${last.field} of ${last.path}`;
        const message = `its ${claim.size} bytes at ${claim.start} overlap those at ${last.start} (${what})`;
        bytes.findings.error(claim.field, claim.at, message, { path: claim.path });
      } else if (!canLeak) {
        checkGap(bytes, end, claim.start);
      }
      if (claim.start + claim.size <= end) continue;
      end = claim.start + claim.size;
      last = claim;
    }
    if (!canLeak) checkGap(bytes, end, bytes.length);
  }
}

function checkGap(bytes: Bytes, start: number, end: number): void {
  const at = firstNonZero(bytes.bytes, start, end);
  if (at === null) return;
  const message = `the ${end - at} bytes before the next structure are not all zero, and no structure refers to them`;
  bytes.findings.warning('unreferenced', at, message);
}
