/**
 * Labels of a layer may be annotations that a hostile manifest brought: what is fetched, and with whose password, follows
 * from what the calling containerd pulled. A content store in this process stands for containerd's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/image/digest.ts';
import { callerOf } from '../../src/snapshotter/caller.ts';
import { type LazyLayer, sourceLabel } from '../../src/snapshotter/labels.ts';
import { Pulls } from '../../src/snapshotter/pulls.ts';
import { FakeContainerd } from '../kit/fake-containerd.ts';
import { needs } from '../kit/skip.ts';

const MANIFEST = Buffer.from('{"schemaVersion":2}');
const PRIVATE = { host: 'registry.corp:5000', repository: 'team/private', plainHttp: null };
const layer: LazyLayer = {
  kind: 'bootstrap',
  chainId: digestOf(Buffer.from('chain')),
  image: 'registry.corp:5000/team/private:1',
  digest: digestOf(Buffer.from('layer')),
  manifestDigest: digestOf(MANIFEST),
};
const us = callerOf(process.pid, 'k8s.io/12/extract-1 sha256:abc');
const refusal = { code: 'FORBIDDEN', message: expect.stringContaining('registry.corp:5000/team/private') };

describe.skipIf(needs('linux', 'addon').reason)('labels that name an image', () => {
  let directory: string;
  let containerd: FakeContainerd;
  let pulls: Pulls;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'lacuna-labels-'));
    containerd = await FakeContainerd.start(join(directory, 'c.sock'));
    pulls = new Pulls('');
  });
  afterEach(async () => {
    await containerd[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  /** containerd has fetched the manifest for references of these repositories of a host. */
  const pulled = (host: string, ...repositories: string[]): void => {
    containerd.content.set(layer.manifestDigest, MANIFEST);
    containerd.contentLabels.set(layer.manifestDigest, { [sourceLabel(host)]: repositories.join(',') });
  };

  test('are believed when containerd pulled the manifest from there', async () => {
    pulled(PRIVATE.host, 'other/app', PRIVATE.repository);
    await pulls.assertPulled(layer, PRIVATE, us);
  });

  test('are refused when containerd does not have the manifest that they name', async () => {
    await expect(pulls.assertPulled(layer, PRIVATE, us)).rejects.toMatchObject(refusal);
  });

  test.each([
    ['another repository of the registry', PRIVATE.host, 'team/private-copy'],
    ['the same name at another registry', 'hostile.example', PRIVATE.repository],
  ])('are refused when it came from %s', async (_what, host, repository) => {
    pulled(host, repository);
    await expect(pulls.assertPulled(layer, PRIVATE, us)).rejects.toMatchObject(refusal);
  });

  test('are refused when they name no manifest at all', async () => {
    pulled(PRIVATE.host, PRIVATE.repository);
    const nameless = { ...layer, manifestDigest: '' };
    await expect(pulls.assertPulled(nameless, PRIVATE, us)).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });

  test('are answered by containerd’s own socket, whatever else the process listens on', async () => {
    // Of another protocol: it takes the connection and says nothing.
    const silent = createServer(() => {});
    const real = await FakeContainerd.start(join(directory, 'containerd.sock'));
    await new Promise<void>((resolve) => silent.listen(join(directory, 'nri.sock'), resolve));
    let asked = 0;
    silent.on('connection', () => asked++);
    try {
      real.content.set(layer.manifestDigest, MANIFEST);
      real.contentLabels.set(layer.manifestDigest, { [sourceLabel(PRIVATE.host)]: PRIVATE.repository });
      await pulls.assertPulled(layer, PRIVATE, us);
      expect(asked).toBe(0);
    } finally {
      await real[Symbol.asyncDispose]();
      await new Promise((resolve) => silent.close(resolve));
    }
  });

  test('of a layer that was announced on our own socket are believed, and of no other one', async () => {
    pulls.announce(PRIVATE, layer.digest);
    await pulls.assertPulled(layer, PRIVATE, us);
    const other = { ...layer, digest: digestOf(Buffer.from('other')) };
    await expect(pulls.assertPulled(other, PRIVATE, us)).rejects.toMatchObject(refusal);
    await expect(pulls.assertPulled(layer, { ...PRIVATE, repository: 'team/other' }, us)).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
  });

  test('announcements are bounded: the oldest is forgotten first', async () => {
    for (let i = 0; i < 1024; i++) pulls.announce(PRIVATE, digestOf(Buffer.from(`${i}`)));
    pulls.announce(PRIVATE, layer.digest);
    await pulls.assertPulled(layer, PRIVATE, us);
    const first = { ...layer, digest: digestOf(Buffer.from('0')) };
    await expect(pulls.assertPulled(first, PRIVATE, us)).rejects.toMatchObject(refusal);
    // Announced again it is the newest.
    pulls.announce(PRIVATE, digestOf(Buffer.from('1')));
    pulls.announce(PRIVATE, digestOf(Buffer.from('new')));
    await pulls.assertPulled({ ...layer, digest: digestOf(Buffer.from('1')) }, PRIVATE, us);
  });

  describe('from a process that is not containerd', () => {
    let other: ChildProcess;
    beforeEach(() => {
      other = spawn('sleep', ['60'], { stdio: 'ignore' });
    });
    afterEach(() => other.kill('SIGKILL'));

    test('are its own: only root can call', async () => {
      await pulls.assertPulled(layer, PRIVATE, { ...us, pid: other.pid! });
    });

    test('are checked all the same where the configuration names the containerd to ask', async () => {
      const strict = new Pulls(containerd.address);
      const caller = { ...us, pid: other.pid! };
      await expect(strict.assertPulled(layer, PRIVATE, caller)).rejects.toMatchObject(refusal);
      pulled(PRIVATE.host, PRIVATE.repository);
      await strict.assertPulled(layer, PRIVATE, caller);
    });
  });

  test('from a process that cannot be seen are refused, with the way out', async () => {
    const unseen = { ...us, pid: 0 };
    await expect(pulls.assertPulled(layer, PRIVATE, unseen)).rejects.toMatchObject({
      code: 'PRECONDITION',
      hint: expect.stringContaining('[snapshotter] containerd'),
    });
    const gone = { ...us, pid: 2 ** 22 };
    await expect(pulls.assertPulled(layer, PRIVATE, gone)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const absent = new Pulls(join(directory, 'none.sock'));
    await expect(absent.assertPulled(layer, PRIVATE, unseen)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
