/** What the daemon does with a bootstrap before anything is mounted. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { DaemonFixture } from '../kit/daemon-fixture.ts';
import { needs } from '../kit/skip.ts';
import { smallBootstrap } from '../kit/small-bootstrap.ts';

const skip = needs('root', 'fuse', 'addon', 'holder', 'dist');

describe.skipIf(skip.reason)('the daemon looks at a bootstrap', () => {
  let room: DaemonFixture;
  beforeEach(async () => {
    room = await DaemonFixture.start();
  });
  afterEach(() => room[Symbol.asyncDispose]());

  const attach = (id: string, bytes: Buffer): Promise<unknown> => {
    const bootstrap = join(room.dir, id);
    writeFileSync(bootstrap, bytes);
    return room.client.attach({ id, bootstrap, sources: [{ directory: { path: room.dir } }] });
  };
  const records = (): string[] => readdirSync(join(room.root, 'images')).sort();
  /** The root directory without its dots. */
  const damaged = (): Buffer => {
    const bytes = smallBootstrap();
    const { superblock } = openBootstrap(bytes, { subject: 'test' });
    bytes.writeBigUInt64LE(0n, superblock.metaBlkaddr * 4096 + superblock.rootNid * 32 + 8);
    return bytes;
  };

  it('and refuses one that the kernel must not mount; nothing of it stays', async () => {
    const refused = { code: 'FORMAT', message: expect.stringMatching(/directory.*without "\." and "\.\."/) };
    await expect(attach('bad', damaged())).rejects.toMatchObject(refused);
    expect(records()).toEqual([]);
    expect(await room.client.status()).toMatchObject({ images: [], devices: [] });
    // That another one was found sound does not matter.
    await attach('image', smallBootstrap());
    await expect(attach('image', damaged())).rejects.toMatchObject(refused);
  });

  it('once, and remembers it as long as the image is attached', async () => {
    await attach('image', smallBootstrap());
    await expect.poll(records).toEqual(['image.checked', 'image.json']);
    await attach('image', smallBootstrap());
    await room.client.detach('image');
    expect(records()).toEqual([]);
  });

  it('without keeping anybody waiting', async () => {
    let isDone = false;
    const attaching = attach('large', smallBootstrap(400_000)).finally(() => {
      isDone = true;
    });
    let answers = 0;
    for (; !isDone; answers++) await room.client.status();
    await attaching;
    expect(answers).toBeGreaterThan(10);
  });
});
