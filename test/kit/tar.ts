/** Tars made byte by byte, for tests of what no tar program would write. */

export interface Member {
  readonly name: string;
  readonly type?: string;
  /** latin1 */
  readonly data?: string;
  readonly link?: string;
  readonly mode?: number;
  /** Header fields to overwrite before the checksum is made: offset → bytes. */
  readonly raw?: ReadonlyArray<readonly [number, string | Buffer]>;
  readonly magic?: string;
  /** Size in the header; default the length of `data`. */
  readonly size?: number;
}

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

/** A member: header and padded data. Names are latin1. */
export function member(fields: Member): Buffer {
  const data = Buffer.from(fields.data ?? '', 'latin1');
  const header = Buffer.alloc(512);
  header.write(fields.name, 0, 100, 'latin1');
  header.write(octal(fields.mode ?? 0o644, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(fields.size ?? data.length, 12), 124);
  header.write(octal(1_700_000_000, 12), 136);
  header.write(fields.type ?? '0', 156, 'latin1');
  header.write(fields.link ?? '', 157, 100, 'latin1');
  header.write(fields.magic ?? 'ustar\x0000', 257, 'latin1');
  for (const [at, value] of fields.raw ?? []) Buffer.from(value as string, 'latin1').copy(header, at);
  header.fill(' ', 148, 156);
  header.write(octal(sumOf(header), 8), 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export const sumOf = (header: Buffer): number => header.reduce((sum, byte) => sum + byte, 0);

/** A pax header (`x` or `g`) with these records. */
export function pax(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): Buffer {
  const data = Object.entries(records)
    .map(([key, value]) => paxRecord(key, value))
    .join('');
  return member({ name: 'pax', type, data });
}

export function paxRecord(key: string, value: string): string {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return `${length}${body}`;
}

export const END = Buffer.alloc(1024);

/** A GNU long name (`L`) or link target (`K`). */
export const gnuLong = (type: 'L' | 'K', text: string): Buffer =>
  member({ name: '././@LongLink', type, data: `${text}\0`, magic: 'ustar  \0' });
