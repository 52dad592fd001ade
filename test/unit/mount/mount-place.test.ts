/** The folders of `lacuna mount`: one that a living process has is nobody else's, one that a dead one left is. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { abandonedPlaces, claimPlace, type MountPlace } from '../../../src/mount/mount-place.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('linux', 'addon');

describe.skipIf(skip.reason)('the place of a mount', () => {
  let root: string;
  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'lacuna-place-')));
  });
  const abandoned = async (): Promise<MountPlace[]> => {
    const places: MountPlace[] = [];
    for await (const place of abandonedPlaces(root)) places.push(place);
    return places;
  };
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it('is not abandoned while its process is about to mount', async () => {
    const place = await claimPlace(root, join(root, 'target'));
    expect(await abandoned()).toEqual([]);
    const bootstrap = await place.write(join(root, 'target'), Buffer.from('bootstrap'));
    expect(await abandoned()).toEqual([]);
    expect(existsSync(bootstrap)).toBe(true);
    place.release();
    const [left, ...more] = await abandoned();
    expect([left!.id, more]).toEqual([place.id, []]);
    await left!.remove();
    left!.release();
    expect(readdirSync(join(root, 'mounts'))).toEqual([]);
  });

  it('stays while its target is mounted, by either driver', async () => {
    const place = await claimPlace(root, '/proc');
    await place.write('/proc', Buffer.alloc(0));
    place.release();
    expect(await abandoned()).toEqual([]);
  });

  it('is claimed by one after the other', async () => {
    const target = join(root, 'target');
    const first = await claimPlace(root, target);
    let isClaimed = false;
    const second = claimPlace(root, target).then((place) => {
      isClaimed = true;
      return place;
    });
    const elsewhere = await claimPlace(root, join(root, 'elsewhere'));
    expect(isClaimed).toBe(false);
    await first.remove();
    first.release();
    expect((await second).id).toBe(first.id);
    (await second).release();
    elsewhere.release();
  });

  it('without a target was left by a process that died before it wrote one', async () => {
    mkdirSync(join(root, 'mounts', 'mount-0000'), { recursive: true });
    writeFileSync(join(root, 'mounts', 'notes'), 'not a place');
    const [left, ...more] = await abandoned();
    expect([left!.id, more]).toEqual(['mount-0000', []]);
    left!.release();
  });
});
