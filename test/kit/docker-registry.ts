/** A real registry: Debian's docker-registry on a free port of the loopback interface. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type Running, start, waitUntil } from './process.ts';

/** A port that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (typeof address === 'object' && address !== null ? resolve(address.port) : reject()));
    });
  });
}

export interface DockerRegistry extends AsyncDisposable {
  readonly port: number;
  /** `127.0.0.1:PORT` */
  readonly address: string;
  readonly process: Running;
}

/** Starts a registry that keeps what is pushed under `dir`. */
export async function dockerRegistry(dir: string): Promise<DockerRegistry> {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  mkdirSync(join(dir, 'data'), { recursive: true });
  const config = join(dir, 'registry.yml');
  writeFileSync(
    config,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: ${JSON.stringify(join(dir, 'data'))}}
  delete: {enabled: true}
http: {addr: "${address}"}
`,
  );
  const process = start('docker-registry', ['serve', config]);
  await waitUntil(process, 'docker-registry', async () => {
    const answer = await fetch(`http://${address}/v2/`).catch(() => null);
    await answer?.body?.cancel();
    return answer?.status === 200;
  });
  return { port, address, process, [Symbol.asyncDispose]: () => process.stop() };
}
