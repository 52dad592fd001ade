/** Sparse members in GNU's four forms, made byte by byte (GNU tar manual, "Storing Sparse Files"). Shares no code with `src`. */
import { type Member, member, pax, paxRecord } from './tar.ts';

export interface Sparse {
  readonly name: string;
  /** Bytes of the whole file. */
  readonly size: number;
  /** Offset and content (latin1) of what is stored. */
  readonly parts: ReadonlyArray<readonly [number, string]>;
  /** Content bytes that the header claims; default: those of the parts. */
  readonly stored?: number;
}

const dense = ({ parts }: Sparse): string => parts.map(([, data]) => data).join('');

/** The file itself, latin1. */
export function wholeOf({ size, parts }: Sparse): string {
  const whole = Buffer.alloc(size);
  for (const [offset, data] of parts) whole.write(data, offset, 'latin1');
  return whole.toString('latin1');
}

const octal = (value: number): string => `${value.toString(8).padStart(11, '0')}\0`;

/** Type `S`: four parts in the header, 21 in each block behind it. */
export function oldSparse(file: Sparse): Buffer {
  const numbers = file.parts.map(([offset, data]) => octal(offset) + octal(data.length));
  const size = file.size >= 8 ** 11 ? binary(file.size) : Buffer.from(octal(file.size));
  const raw: Array<readonly [number, string | Buffer]> = [[483, size]];
  if (numbers.length > 0) raw.push([386, numbers.slice(0, 4).join('')]);
  if (numbers.length > 4) raw.push([482, '\x01']);
  const content = dense(file);
  const fields: Member = { name: file.name, type: 'S', magic: 'ustar  \0', size: file.stored ?? content.length, raw };
  const blocks = [member(fields).subarray(0, 512)];
  for (let at = 4; at < numbers.length; at += 21) {
    const block = Buffer.alloc(512);
    block.write(numbers.slice(at, at + 21).join(''), 'latin1');
    block[504] = at + 21 < numbers.length ? 1 : 0;
    blocks.push(block);
  }
  return Buffer.concat([...blocks, padded(content, file.stored)]);
}

function binary(value: number): Buffer {
  const field = Buffer.alloc(12);
  field[0] = 0x80;
  field.writeUIntBE(value, 6, 6);
  return field;
}

/** Content, or as much of it and of dots as the header claims. */
function padded(content: string, stored = content.length): Buffer {
  const data = Buffer.from(content.padEnd(stored, '.').slice(0, stored), 'latin1');
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

const regular = (file: Sparse, data: string): Buffer =>
  Buffer.concat([
    member({ name: file.name, size: file.stored ?? data.length }).subarray(0, 512),
    padded(data, file.stored),
  ]);

export function sparse00(file: Sparse): Buffer {
  const { parts, size } = file;
  const pair = ([offset, data]: readonly [number, string]) =>
    paxRecord('GNU.sparse.offset', `${offset}`) + paxRecord('GNU.sparse.numbytes', `${data.length}`);
  const records =
    paxRecord('GNU.sparse.major', '0') +
    paxRecord('GNU.sparse.minor', '0') +
    paxRecord('GNU.sparse.size', `${size}`) +
    paxRecord('GNU.sparse.numblocks', `${parts.length}`) +
    parts.map(pair).join('');
  return Buffer.concat([member({ name: 'pax', type: 'x', data: records }), regular(file, dense(file))]);
}

export function sparse01(file: Sparse): Buffer {
  const records = {
    'GNU.sparse.major': '0',
    'GNU.sparse.minor': '1',
    'GNU.sparse.name': file.name,
    'GNU.sparse.size': `${file.size}`,
    'GNU.sparse.numblocks': `${file.parts.length}`,
    'GNU.sparse.map': file.parts.map(([offset, data]) => `${offset},${data.length}`).join(','),
  };
  return Buffer.concat([pax(records), regular({ ...file, name: 'GNUSparseFile.1/x' }, dense(file))]);
}

export function sparse10(file: Sparse): Buffer {
  const numbers = [file.parts.length, ...file.parts.flatMap(([offset, data]) => [offset, data.length])];
  const map = `${numbers.join('\n')}\n`;
  const blocks = map.padEnd(Math.ceil(map.length / 512) * 512, '\0');
  const records = {
    'GNU.sparse.major': '1',
    'GNU.sparse.minor': '0',
    'GNU.sparse.name': file.name,
    'GNU.sparse.realsize': `${file.size}`,
  };
  const stored = file.stored === undefined ? {} : { stored: file.stored + blocks.length };
  return Buffer.concat([
    pax(records),
    regular({ ...file, ...stored, name: 'GNUSparseFile.1/x' }, blocks + dense(file)),
  ]);
}
