/** Who says that which bytes of a bootstrap are theirs: nothing belongs to two, and what belongs to nobody is empty. */
import { type Bytes, firstNonZero } from './bytes.ts';

interface Area {
  readonly start: number;
  readonly size: number;
  /** The field that says so, its place, and the file it is about. */
  readonly field: string;
  readonly at: number;
  readonly path: string | null;
}

export class Areas {
  readonly #areas: Area[] = [];

  /** Bytes that are in the file. */
  add(start: number, size: number, field: string, at: number, path: string | null = null): void {
    if (size > 0) this.#areas.push({ start, size, field, at, path });
  }

  /** `canLeak`: whether bytes that belong to nobody may lie about. */
  check(bytes: Bytes, canLeak: boolean): void {
    const areas = this.#areas.toSorted((a, b) => a.start - b.start || a.size - b.size);
    let last: Area | null = null;
    let end = 0;
    for (const area of areas) {
      if (last !== null && area.start < end) {
        const what = last.path === null ? last.field : `${last.field} of ${last.path}`;
        const message = `its ${area.size} bytes at ${area.start} overlap those at ${last.start} (${what})`;
        bytes.findings.error(area.field, area.at, message, { path: area.path });
      } else if (!canLeak) {
        checkGap(bytes, end, area.start);
      }
      if (area.start + area.size <= end) continue;
      end = area.start + area.size;
      last = area;
    }
    if (!canLeak) checkGap(bytes, end, bytes.length);
  }
}

function checkGap(bytes: Bytes, start: number, end: number): void {
  const at = firstNonZero(bytes.bytes, start, end);
  if (at === null) return;
  const message = `something in the ${end - at} bytes up to the next structure, to which nothing refers: a lost inode, or rubbish`;
  bytes.findings.warning('unreferenced', at, message);
}
