/** Broken connections to Debian's docker-registry: what our own registry of the tests claims about real ones. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { UPLOAD_WINDOW } from '../../../src/registry/http/upload.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { uploadBlob } from '../../../src/registry/upload-blob.ts';
import { type DockerRegistry, dockerRegistry } from '../../kit/docker-registry.ts';
import { needs } from '../../kit/skip.ts';
import { collect, describeBytes, failure, push, writeAll } from './contract.ts';
import { QUICK, referenceTo, TRANSPORTS } from './kit.ts';

/** A proxy that closes a connection when all of them have carried `up` or `down` bytes, once. */
class Scissors {
  up: number | null = null;
  down: number | null = null;
  readonly #server: Server;

  constructor(port: number) {
    this.#server = createServer((client) => {
      const server = connect(port, '127.0.0.1');
      const end = (): void => {
        client.destroy();
        server.destroy();
      };
      const carry = (way: 'up' | 'down', piece: Buffer): void => {
        const to = way === 'up' ? server : client;
        const left = this[way];
        if (left !== null) this[way] = left > piece.length ? left - piece.length : null;
        if (left === null || left > piece.length) to.write(piece);
        else to.write(piece.subarray(0, left), end);
      };
      client.on('data', (piece: Buffer) => carry('up', piece));
      server.on('data', (piece: Buffer) => carry('down', piece));
      for (const socket of [client, server]) socket.on('error', end).on('close', end);
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
  }
}

const skip = needs('docker-registry');

describe.skipIf(skip.reason).each(TRANSPORTS)('docker-registry over %s', (transport) => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-registry-'));
  let registry: DockerRegistry;
  let scissors: Scissors;
  let store: ImageStore;

  beforeAll(async () => {
    registry = await dockerRegistry(dir);
  });
  afterAll(async () => {
    await registry[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });
  beforeEach(async () => {
    scissors = new Scissors(registry.port);
    store = await openStore(referenceTo(await scissors.listen()), { transport, retry: QUICK });
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    scissors.close();
  });

  test('a read that is cut goes on where it was cut', async () => {
    const bytes = randomBytes(3_000_000);
    const blob = await push(store, bytes);
    scissors.down = 1_234_567;
    expect((await collect(store.open(blob))).equals(bytes)).toBe(true);
    scissors.down = 500_000;
    expect(
      (await collect(store.open(blob, { offset: 1000, length: 2_000_000 }))).equals(bytes.subarray(1000, 2_001_000)),
    ).toBe(true);
    expect(scissors.down).toBeNull();
  });

  test('a push that is cut in its first chunk begins anew', async () => {
    const bytes = randomBytes(5_000_000);
    scissors.up = 3_000_000;
    const blob = await push(store, bytes);
    expect(scissors.up).toBeNull();
    expect((await collect(store.open(blob))).equals(bytes)).toBe(true);
  });

  test('a push that is cut later is made again: this registry drops such an upload', async () => {
    const bytes = randomBytes(UPLOAD_WINDOW + 4_000_000);
    scissors.up = UPLOAD_WINDOW + 3_000_000;
    const error = await failure('UNAVAILABLE', push(store, bytes));
    expect(error.message).toContain('has lost an upload');
    expect(error.retryable).toBe(true);
    scissors.up = UPLOAD_WINDOW + 3_000_000;
    const repeats: Error[] = [];
    await uploadBlob(store, (upload) => writeAll(upload, bytes), { onRepeat: (cause) => repeats.push(cause) });
    expect(scissors.up).toBeNull();
    expect((await collect(store.open(describeBytes(bytes)))).equals(bytes)).toBe(true);
  });
});
