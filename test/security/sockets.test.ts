/** Our sockets are nobody else's: not while they are made, and not when somebody has widened their mode. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadService } from '../../src/grpc/proto.ts';
import { type CallContext, type UnixServer, unary, unixChannel, unixServer } from '../../src/grpc/unix.ts';
import { needs } from '../kit/skip.ts';

const PROTO = 'syntax = "proto3"; package test; message Thing {} service Echo { rpc One(Thing) returns (Thing); }';
const NOBODY = 65534;

/** Connects and reads to the end; prints how many bytes came, or the error. */
const CLIENT = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
try:
  s.connect(sys.argv[1])
  print(len(s.recv(100)))
except OSError as error:
  print(type(error).__name__)
`;

describe.skipIf(needs('linux', 'addon', 'python3').reason)('a socket of ours', () => {
  let directory: string;
  let server: UnixServer | null = null;
  let seen: CallContext | null = null;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lacuna-sockets-'));
    writeFileSync(join(directory, 'test.proto'), PROTO);
  });
  afterEach(async () => {
    await server?.close(0);
    rmSync(directory, { recursive: true });
  });

  const definition = () => loadService(join(directory, 'test.proto'), 'test.Echo');
  const serve = async (): Promise<string> => {
    const handlers = {
      One: unary((request: object, context) => {
        seen = context;
        return request;
      }),
    };
    server = await unixServer(join(directory, 's.sock'), [{ definition: definition(), handlers }]);
    return server.path;
  };

  test('has mode 0600 whatever the umask, and no other name before', async () => {
    const before = process.umask(0);
    try {
      expect(statSync(await serve()).mode & 0o777).toBe(0o600);
    } finally {
      process.umask(before);
    }
  });

  test('tells the handlers of calls which process calls', async () => {
    using channel = unixChannel(await serve(), definition());
    await channel.call('One', {});
    expect(seen!.pid).toBe(process.pid);
  });

  test.skipIf(needs('root').reason)(
    'answers root, and closes what another user opens, even when everybody may connect',
    async () => {
      const path = await serve();
      chmodSync(directory, 0o755);
      const connect = async (uid: number): Promise<string> =>
        (await promisify(execFile)('python3', ['-c', CLIENT, path], { uid, gid: uid })).stdout.trim();
      expect(await connect(NOBODY)).toBe('PermissionError');
      chmodSync(path, 0o666);
      expect(await connect(NOBODY)).toMatch(/^(0|ConnectionResetError)$/);
      // HTTP/2 begins with the server's settings.
      expect(Number(await connect(0))).toBeGreaterThan(0);
    },
  );
});
