/**
 * Keeps undici 7 from killing the process: when a server closes the connection after a body that the reader has not
 * taken yet, the parser is paused, and `Parser.finish()` asserts that it is not, in a socket event whose errors cannot
 * be caught (nodejs/undici#5360). undici 8 parses the rest first; this does the same for 7, which Node 20 needs. Remove
 * it with undici 7.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** The part of undici's HTTP/1 parser that is used. */
interface Parser {
  readonly socket: Socket;
  readonly llhttp: { llhttp_resume(pointer: number): void };
  readonly ptr: number;
  paused: boolean;
  execute(chunk: Buffer): void;
  finish(): Error | null;
}

const guarded = new WeakSet<object>();

/** Patches the class of a connection's parser, and returns whether it was found. Idempotent. */
export function guardParserOf(socket: object): boolean {
  const key = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'parser');
  const parser: unknown = key === undefined ? null : Reflect.get(socket, key);
  if (!isParser(parser)) return false;
  const prototype = Object.getPrototypeOf(parser) as Parser;
  if (guarded.has(prototype)) return true;
  guarded.add(prototype);
  const { finish } = prototype;
  prototype.finish = function (this: Parser) {
    drain(this);
    return finish.call(this);
  };
  return true;
}

/** Parses the remaining bytes although the parser is paused; the response buffers them. */
function drain(parser: Parser): void {
  while (parser.paused) {
    parser.llhttp.llhttp_resume(parser.ptr);
    parser.paused = false;
    const rest = (parser.socket.read() as Buffer | null) ?? Buffer.alloc(0);
    parser.execute(rest);
    if (rest.length > 0 || !parser.paused) continue;
    // A body that ends with the connection stays paused, and finish() completes it.
    parser.llhttp.llhttp_resume(parser.ptr);
    parser.paused = false;
  }
}

const isParser = (value: unknown): value is Parser =>
  typeof value === 'object' &&
  value !== null &&
  'paused' in value &&
  'execute' in value &&
  'finish' in value &&
  'llhttp' in value;

let isOn = false;

/** Guards every connection of this process's undici, of any dispatcher. */
export function guardUndici(): void {
  if (isOn) return;
  isOn = true;
  // Node's own copy of undici, which has its own parser class, announces its connections on this channel, too.
  subscribe('undici:client:connected', (message) => {
    if (typeof message === 'object' && message !== null && 'socket' in message) {
      guardParserOf(message.socket as object);
    }
  });
}
