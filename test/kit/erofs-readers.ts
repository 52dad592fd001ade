/** EROFS images as two libraries see them that share no code with ours nor with the kernel; see `test/oracle/programs`. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { oraclePath } from '#cache';
import type { Row } from './tree.ts';

export type ErofsReader = 'go-erofs-walk' | 'erofs-rs-walk';

/** A line of such a program: byte strings in hex, and every field for every type. */
interface Line {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly sec: number;
  readonly nsec: number;
  readonly nlink: number;
  readonly ino: number;
  readonly major: number;
  readonly minor: number;
  readonly target: string;
  readonly xattrs: Readonly<Record<string, string>>;
  readonly sha256: string;
}

/** The rows of an image; `devices` are files of plain blob content in the order of the blob table. */
export async function readerWalk(reader: ErofsReader, image: string, devices: readonly string[]): Promise<Row[]> {
  const program = oraclePath(reader);
  const { stdout } = await promisify(execFile)(program, [image, ...devices], { maxBuffer: 1 << 30 });
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const names = new Map<number, number>();
  for (const { ino } of lines) names.set(ino, (names.get(ino) ?? 0) + 1);
  return lines.map((line) => rowOf(line, line.type !== 'dir' && names.get(line.ino)! > 1));
}

function rowOf(line: Line, linked: boolean): Row {
  const { type, uid, gid, sec, nsec, nlink, major, minor } = line;
  return {
    ...named('path', line.path),
    type,
    mode: line.mode.toString(8).padStart(4, '0'),
    uid,
    gid,
    mtime: { sec, nsec },
    nlink,
    xattrs: Object.fromEntries(
      Object.entries(line.xattrs).map(([name, value]) => [Buffer.from(name, 'hex').toString(), value]),
    ),
    ...(type === 'reg' ? { size: line.size, sha256: line.sha256 } : {}),
    ...(type === 'char' || type === 'block' ? { rdev: { major, minor } } : {}),
    ...(type === 'symlink' ? named('target', line.target) : {}),
    ...(linked ? { link_group: line.ino } : {}),
  };
}

/** As the rows of the other witnesses: text where the bytes are UTF-8, else base64. */
function named<Field extends 'path' | 'target'>(field: Field, hex: string): { [name: string]: string } {
  const bytes = Buffer.from(hex, 'hex');
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? { [field]: text } : { [`${field}_b64`]: bytes.toString('base64') };
}
