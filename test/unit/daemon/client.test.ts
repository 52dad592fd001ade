/** How long calls of the control API wait. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { daemonService } from '../../../src/daemon/api.ts';
import { connectDaemon } from '../../../src/daemon/client.ts';
import { MAX_READ_SECONDS, MAX_WAIT_SECONDS } from '../../../src/daemon/limits.ts';
import { rootPaths } from '../../../src/daemon/root.ts';
import { unixServer } from '../../../src/grpc/unix.ts';

interface Call {
  getDeadline(): Date | number;
}

it('an Attach waits longer than the daemon may take for it, other calls a minute', async () => {
  const root = mkdtempSync(join(tmpdir(), 'lct-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const seconds = new Map<string, number>();
  const note = (name: string) => (call: Call, answer: (error: null, value: object) => void) => {
    seconds.set(name, (Number(call.getDeadline()) - Date.now()) / 1000);
    answer(null, { counters: {} });
  };
  const handlers = { Attach: note('attach'), Detach: note('detach'), Status: note('status') };
  await using _server = await unixServer(rootPaths(root).socket, [{ definition: daemonService(), handlers }]);
  using client = connectDaemon(root);
  await client.attach({ id: 'a', bootstrap: '/a', sources: [] });
  await client.detach('a');
  await client.status();
  expect(seconds.get('attach')).toBeGreaterThan(MAX_WAIT_SECONDS + MAX_READ_SECONDS + 20);
  expect(seconds.get('detach')).toBeLessThanOrEqual(60);
  expect(seconds.get('status')).toBeLessThanOrEqual(60);
});
