/** A registry that redirects to names whose name server is silent, in one process with a healthy registry. */
import { createHash } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { noise } from '../kit/daemon-fixture.ts';
import { run } from '../kit/process.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'addon', 'dist');
/** Of the loopback network, so that whatever else serves names here keeps its port. */
const NAME_SERVER = '127.73.0.1';
/** Names of the hostile registry, each asked for at once. */
const NAMES = 6;

/** Asks a hostile registry for blobs, then a healthy one for one, and prints who has come to an end, in that order. */
const SCRIPT = `
const [open, transport, hostile, healthy, digest, size, names] = process.argv.slice(2);
const { openStore } = await import(open);
const storeOf = (host) => openStore(
  { transport: 'docker', host, repository: 'some/image', tag: null, digest: null },
  { plainHttp: true, transport, retry: { attempts: 1 } },
);
const read = async (store, digest) => {
  let length = 0;
  for await (const piece of store.open({ mediaType: 'application/octet-stream', digest, size: Number(size) })) length += piece.length;
  return length;
};
const bad = await storeOf(hostile);
const asked = Array.from({ length: Number(names) }, async (_, index) => {
  const name = 'sha256:' + String(index).padStart(64, '0');
  await read(bad, name).then(console.log, ({ code, message }) => console.log(code, message));
});
// Their requests and redirects go out first.
await new Promise((resolve) => setTimeout(resolve, 500));
console.log('healthy', await read(await storeOf(healthy), digest));
await Promise.all(asked);
process.exit();
`;

describe.skipIf(skip.reason)('names whose name server is silent', () => {
  let dir: string;
  let names: Socket;
  let hostile: TestRegistry;
  let healthy: TestRegistry;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-names-'));
    [hostile, healthy] = [await startRegistry(), await startRegistry()];
    names = createSocket('udp4');
    names.on('message', (query, { port, address }) => {
      if (query.includes('healthy')) names.send(answerTo(query), port, address);
    });
    names.bind(53, NAME_SERVER);
    await once(names, 'listening');
  });
  afterEach(async () => {
    names.close();
    for (const registry of [hostile, healthy]) await registry.close();
    rmSync(dir, { recursive: true });
  });

  it.each(['undici', 'node-fetch'])('over %s delay nobody but the registry that led to them', async (transport) => {
    const blob = noise(1, 5000);
    healthy.storage.putBlob('some/image', blob);
    hostile.fault = ({ path }) => {
      const number = /0*([0-9]+)$/.exec(path)![1];
      return path.includes('/blobs/') ? { kind: 'redirect', to: `http://n${number}.silent.test/blob` } : null;
    };
    const script = join(dir, 'script.mjs');
    writeFileSync(script, SCRIPT);
    writeFileSync(join(dir, 'resolv.conf'), `nameserver ${NAME_SERVER}\n`);
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    const words = [process.execPath, script, resolve('dist/registry/open.js'), transport];
    const hosts = [hostile.host, healthy.host.replace('localhost', 'healthy.test')];
    const isolated = `mount --bind ${dir}/resolv.conf /etc/resolv.conf && exec "$@"`;
    const { stdout } = await run('unshare', [
      ...['-m', 'sh', '-c', isolated, 'sh', ...words, ...hosts, digest, String(blob.length), String(NAMES)],
    ]);
    const lines = stdout.trim().split('\n');
    expect(lines[0]).toBe('healthy 5000');
    expect(lines.slice(1)).toHaveLength(NAMES);
    for (const line of lines.slice(1))
      expect(line).toMatch(/^TIMEOUT n[0-9]\.silent\.test: no name server answered in time/);
  });
});

/** 127.0.0.1 for a query of type A (1), and no address of another type (RFC 1035, 4.1). */
function answerTo(query: Buffer): Buffer {
  const end = query.indexOf(0, 12) + 5;
  const isAddress = query.readUInt16BE(end - 4) === 1;
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(0x8180, 2);
  header.writeUInt16BE(isAddress ? 1 : 0, 6);
  header.fill(0, 8);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
  return Buffer.concat([header, query.subarray(12, end), ...(isAddress ? [record] : [])]);
}
