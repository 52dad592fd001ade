/** Results on stdout: streamed at the reader's speed, names and times as people read them. */
import { once } from 'node:events';
import type { Row } from '../inspect/entries.ts';
import type { StatChunk } from '../inspect/stat.ts';
import { screen } from '../observe/screen.ts';
import { printableName } from '../printable.ts';

/** Writes to stdout and waits while its reader is behind. */
export async function write(data: string | Uint8Array): Promise<void> {
  if (process.stdout.isTTY) screen.hide();
  if (!process.stdout.write(data)) await once(process.stdout, 'drain');
}

export const TYPE_LETTERS: Readonly<Record<Row['type'], string>> = {
  reg: '-',
  dir: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
  socket: 's',
};

/** A name on a terminal: control and direction characters escaped, bytes that are not UTF-8 as U+FFFD. */
export const shown = (text: string | undefined, base64?: string): string => printableName(textOf(text, base64));

/** A name as text, bytes that are not UTF-8 as U+FFFD. */
export const textOf = (text: string | undefined, base64?: string): string =>
  text ?? (base64 === undefined ? '' : Buffer.from(base64, 'base64').toString('utf8'));

/** A time in UTC, to the second or with its nanoseconds; seconds since the epoch beyond the range of dates. */
export function shownTime({ sec, nsec }: Row['mtime'], withNanoseconds = false): string {
  const time = new Date(sec * 1000);
  const fraction = withNanoseconds ? `.${String(nsec).padStart(9, '0')}` : '';
  return Number.isNaN(time.getTime()) ? `${sec}${fraction}` : `${time.toISOString().slice(0, 19)}${fraction}Z`;
}

/** Where a chunk is stored, and what it hashes to. */
export function describeStored(chunk: Omit<StatChunk, 'fileOffset'>): string {
  const { blob, index, unit, compressedOffset, compressedSize, compressor, digester, digest } = chunk;
  const within = unit === null ? '' : `, bytes ${unit.offset}… of a ${unit.decoder} unit of ${unit.size}`;
  const place = `${compressedOffset}+${compressedSize} (${compressor})`;
  return `blob ${blob.slice(0, 12)} chunk ${index} at ${place} ${digester}:${digest}${within}`;
}
