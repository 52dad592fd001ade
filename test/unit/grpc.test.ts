import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LacunaError } from '../../src/errors.ts';
import { loadMessage, loadService } from '../../src/grpc/proto.ts';
import { serverStream, type UnixServer, unary, unixChannel, unixServer } from '../../src/grpc/unix.ts';

const PROTO = `
syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
enum Kind { NONE = 0; VIEW = 1; }
message Thing {
  int64 big_number = 1; Kind kind = 2; bytes data = 3; map<string, string> labels = 4;
  google.protobuf.Timestamp at = 5; repeated string names = 6; optional bool flag = 7;
}
service Echo { rpc One(Thing) returns (Thing); rpc Many(Thing) returns (stream Thing); }
`;

let directory: string;
let protoFile: string;
let server: UnixServer | null = null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lacuna-grpc-'));
  protoFile = join(directory, 'test.proto');
  await writeFile(protoFile, PROTO);
});
afterEach(async () => {
  await server?.close(0);
  server = null;
  await rm(directory, { recursive: true });
});

const EMPTY = { bigNumber: 0, kind: 'NONE', data: Buffer.alloc(0), labels: {}, at: null, names: [] };

test('messages come back with every kind of field', () => {
  const codec = loadMessage(protoFile, 'test.Thing');
  const full = {
    bigNumber: -62135596800,
    kind: 'VIEW',
    data: Buffer.from([0, 255]),
    labels: { 'containerd.io/x': 'y' },
    at: { seconds: -62135596800, nanos: 5 },
    names: ['a', 'b'],
    flag: false,
  };
  expect(codec.decode(codec.encode(full))).toEqual(full);
  expect(codec.decode(codec.encode({ bigNumber: 2 ** 53 - 1 }))).toEqual({ ...EMPTY, bigNumber: 2 ** 53 - 1 });
  expect(codec.decode(codec.encode({ at: null }))).toEqual(EMPTY);
});

interface Thing {
  readonly names: readonly string[];
}

/** What the types of a service look like, see `grpc/messages`. */
interface Echo {
  readonly One: { readonly request: Thing; readonly response: Thing };
  readonly Many: { readonly request: Thing; readonly response: Thing; readonly streams: true };
}

async function serve(handlers: Parameters<typeof unixServer>[1][number]['handlers']) {
  const definition = loadService<Echo>(protoFile, 'test.Echo');
  const path = join(directory, 's.sock');
  server = await unixServer(path, [{ definition, handlers }]);
  return { path, definition };
}

test('a call, its errors and the socket', async () => {
  const { path, definition } = await serve({
    One: unary((request: { names: string[] }) => {
      if (request.names[0] === 'ours') {
        throw new LacunaError('LOCKED', 'held by ünother', { subject: '/röot', hint: 'stop it', op: 'lock' });
      }
      if (request.names[0] === 'foreign') throw new RangeError('oops');
      return request;
    }),
    Many: serverStream(async function* () {}),
  });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  using channel = unixChannel(path, definition);
  expect(await channel.call('One', { names: ['x'] })).toEqual({ ...EMPTY, names: ['x'] });
  await expect(channel.call('One', { names: ['ours'] })).rejects.toMatchObject({
    name: 'LacunaError',
    code: 'LOCKED',
    message: 'held by ünother',
    subject: '/röot',
    hint: 'stop it',
    op: 'lock',
    // What containerd, which knows nothing of our metadata, logs of it.
    cause: { details: 'held by ünother (stop it)' },
  });
  await expect(channel.call('One', { names: ['foreign'] })).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'oops',
  });
  await expect(channel.call('One', {}, { signal: AbortSignal.abort() })).rejects.toThrow();
});

test('a stream ends with its error after what came before it, and stops when its reader does', async () => {
  let ended = false;
  const { path, definition } = await serve({
    One: unary((request: object) => request),
    Many: serverStream(async function* (request: { names: string[] }) {
      try {
        for (const name of request.names) {
          if (name === 'bad') throw new LacunaError('NOT_FOUND', 'no bad');
          yield { names: [name] };
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
        yield { names: ['last'] };
      } finally {
        ended = true;
      }
    }),
  });
  using channel = unixChannel(path, definition);
  const got: string[] = [];
  const read = async (names: string[], most = 10) => {
    for await (const thing of channel.stream('Many', { names })) {
      got.push(thing.names[0]!);
      if (got.length === most) break;
    }
  };
  await read(['a', 'b']);
  expect(got.splice(0)).toEqual(['a', 'b', 'last']);
  await expect(read(['a', 'bad', 'c'])).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'no bad' });
  expect(got.splice(0)).toEqual(['a']);
  ended = false;
  await read(['a', 'b', 'c'], 1);
  await expect.poll(() => ended).toBe(true);
});

test('a client reaches a server that started later, and one that was restarted', async () => {
  const definition = loadService<Echo>(protoFile, 'test.Echo');
  const path = join(directory, 's.sock');
  using channel = unixChannel(path, definition);
  await expect(channel.call('One', {})).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
  const handlers = { One: unary((request: object) => request), Many: serverStream(async function* () {}) };
  for (let round = 0; round < 2; round++) {
    server = await unixServer(path, [{ definition, handlers }]);
    await expect
      .poll(
        () =>
          channel.call('One', {}).then(
            () => true,
            () => false,
          ),
        { timeout: 3000 },
      )
      .toBe(true);
    await server.close(0);
    server = null;
  }
});

test('a socket path that does not fit is refused with its length', async () => {
  const definition = loadService<Echo>(protoFile, 'test.Echo');
  expect(() => unixChannel(`/tmp/${'x'.repeat(120)}`, definition)).toThrow(/at most 107 bytes/);
});
