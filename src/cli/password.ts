/** Passwords from standard input: prompted for without echo on a terminal, one per line elsewhere. */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { LacunaError } from '../errors.ts';

/** Maximum length of a password or token, in characters. */
const MAX_PASSWORD = 64 * 1024;

/** A word that is typed, e.g. a user name. Null without a terminal. */
export async function ask(question: string): Promise<string | null> {
  if (process.stdin.isTTY !== true) return null;
  return await typed(question, false);
}

/** The next password. USAGE when there is none. */
export async function readPassword(question: string): Promise<string> {
  const text = process.stdin.isTTY === true ? await typed(question, true) : await nextLine();
  if (text !== null && text !== '' && text.length <= MAX_PASSWORD) return text;
  throw new LacunaError('USAGE', 'no password on standard input', {
    op: 'read password',
    hint: 'type it, or give it on standard input: printf %s "$PASSWORD" | lacuna …',
  });
}

async function typed(question: string, isHidden: boolean): Promise<string | null> {
  const echo = new Writable({
    write(piece: Buffer, _encoding, done) {
      if (!isHidden) process.stderr.write(piece);
      done();
    },
  });
  process.stderr.write(question);
  const reader = createInterface({ input: process.stdin, output: echo, terminal: true });
  try {
    return await new Promise((resolve) => {
      reader.once('line', resolve);
      reader.once('close', () => resolve(null));
      reader.once('SIGINT', () => {
        reader.close();
        process.kill(process.pid, 'SIGINT');
      });
    });
  } finally {
    reader.close();
    if (isHidden) process.stderr.write('\n');
  }
}

let lines: AsyncIterator<string> | null = null;
let reader: Interface | null = null;

/** Several passwords are several lines. */
async function nextLine(): Promise<string | null> {
  reader ??= createInterface({ input: process.stdin });
  lines ??= reader[Symbol.asyncIterator]();
  const next = await lines.next();
  // The process must not wait for a pipe that stays open.
  process.stdin.unref?.();
  return next.done === true ? null : next.value;
}
