/** Images mounted by the portable driver: other processes see the tree of the truth, as far as the library can carry it. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { mountImage } from '../../src/mount/image.ts';
import { silentLog } from '../../src/observe/log.ts';
import { display } from '../../src/tree/node.ts';
import { lacunaArgs } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { mountsBelow, unmountBelow } from '../kit/mounts.ts';
import { type Running, run, start, waitUntil } from '../kit/process.ts';
import { variantFolder } from '../kit/rafs-variants.ts';
import { digestsOf, readAtRandom } from '../kit/readers.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows, walk } from '../kit/tree.ts';

const skip = needs('linux', 'root', 'fuse', 'fuse-native', 'fusermount', 'dist', 'python3');

const MERGED = 'tame-mini';
const LAYER1 = 'tame-mini.only-layer1';

/** Variant → its truth: one of each kind of chunks. What it serves is what the library reads. */
const VARIANTS: ReadonlyArray<readonly [variant: string, truth: string]> = [
  ['default', LAYER1],
  ['sha256', LAYER1],
  ['lz4', LAYER1],
  ['chunk-4k', LAYER1],
  ['chunk-64k', LAYER1],
  ['chunk-16m', LAYER1],
  ['blob-toc', LAYER1],
  ['prefetch', LAYER1],
  ['merged', MERGED],
  ['batch', LAYER1],
  ['encrypted', LAYER1],
  ['zran', MERGED],
  ['zran-single', LAYER1],
  ['estargz-ref', LAYER1],
  ['tarfs', MERGED],
];

/** Names and targets that are not UTF-8 come out with U+FFFD, in the library's text. */
function asText(row: Row): Row {
  const { path_b64, target_b64, ...rest } = row;
  const text = (base64: string): string => display(Buffer.from(base64, 'base64').toString('latin1'));
  return {
    ...rest,
    ...(path_b64 === undefined ? {} : { path: text(path_b64) }),
    ...(target_b64 === undefined ? {} : { target: text(target_b64) }),
  };
}

/** Its exit code, once it has ended. */
async function exitOf({ child }: Running): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

describe.skipIf(skip.reason)('fuse-native', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lf-'));
  const running: Running[] = [];

  const mount = async (image: string, ...flags: string[]): Promise<{ target: string; server: Running }> => {
    const target = join(dir, `${running.length}`);
    mkdirSync(target);
    const server = start(process.execPath, lacunaArgs('mount', '--driver', 'fuse-native', ...flags, image, target));
    running.push(server);
    await waitUntil(server, 'the mount', async () => mountsBelow(target).length > 0);
    return { target, server };
  };

  afterEach(async () => {
    unmountBelow(dir);
    for (const server of running) await server.stop();
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it.each(VARIANTS)('%s shows the tree of the truth to several readers', async (variant, truth) => {
    const { target } = await mount(`rafs:${join(variantFolder(dir, variant), 'bootstrap')}`);
    expect(mountsBelow(target)).toMatchObject([{ type: 'fuse.lacuna' }]);
    const expected = readRows(fixture(`truth/${truth}.merged.jsonl`)).map(asText);
    for (const read of await readAtRandom(target, 3)) expect(read).toEqual(digestsOf(expected));
    // nydus-image overwrote the end of one target in the tarfs image.
    const isDamage = (line: string) => variant === 'tarfs' && line.startsWith('"/links/gnu-long": target');
    const differences = diffTrees(expected, await walk(target), { time: nydusImageTime });
    expect(differences.filter((line) => !isDamage(line))).toEqual([]);
    expect(() => writeFileSync(join(target, 'not-there'), '')).toThrow('EROFS');
  });

  it.each([
    [[], ['nosuid', 'nodev']],
    [['--suid', '--dev'], []],
  ])('mounted with %j lets setuid programs and device nodes work only when that was asked for', async (flags, set) => {
    const { target } = await mount(`rafs:${fixture('rafs/default/bootstrap')}`, ...flags);
    const row = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((line) => line.split(' ')[4] === target)!;
    const options = row.split(' ')[5]!.split(',');
    expect(options.filter((option) => option === 'nosuid' || option === 'nodev')).toEqual(set);
  });

  it('answers an extended attribute with no more than was asked for', async () => {
    const { target } = await mount(`rafs:${fixture('rafs/default/bootstrap')}`);
    const script = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for folder, dirs, files in os.walk(sys.argv[1]):
    for name in files:
        path = os.path.join(folder, name).encode(errors='surrogateescape')
        for attribute in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, attribute, follow_symlinks=False)
            if len(value) < 2: continue
            size = libc.lgetxattr(path, attribute.encode(), ctypes.create_string_buffer(1), 1)
            assert size == -1 and ctypes.get_errno() == 34, (path, attribute, size)
            print(attribute)
`;
    const { stdout } = await run('python3', ['-c', script, target]);
    expect(stdout).toContain('user.');
  });

  it('ends when it is unmounted, and unmounts on a signal', async () => {
    const image = `rafs:${fixture('rafs/default/bootstrap')}`;
    const first = await mount(image);
    expect(spawnSync('umount', [first.target]).status).toBe(0);
    expect(await exitOf(first.server)).toBe(0);
    const second = await mount(image);
    await run(process.execPath, lacunaArgs('umount', second.target));
    expect(await exitOf(second.server)).toBe(0);
    const third = await mount(image);
    third.server.child.kill('SIGTERM');
    expect(await exitOf(third.server)).toBe(0);
    expect(mountsBelow(dir)).toEqual([]);
  });

  it('fails a read of what cannot be verified, and says so', async () => {
    const blobs = join(dir, 'damaged');
    mkdirSync(blobs);
    const [name] = readRows(fixture('truth', `${LAYER1}.merged.jsonl`)).flatMap(({ path, size }) =>
      path !== undefined && size !== undefined && size > 1000 ? [path] : [],
    );
    const bootstrap = fixture('rafs/sha256/bootstrap');
    const { openBootstrap } = await import('../../src/formats/rafs/open.ts');
    for (const { id } of openBootstrap(readFileSync(bootstrap), { subject: 'sha256' }).blobs) {
      writeFileSync(join(blobs, id), Buffer.alloc(readFileSync(fixture('rafs/sha256', id)).length, 7));
    }
    const { target, server } = await mount(`rafs:${bootstrap},blobs=${blobs}`);
    expect(() => readFileSync(join(target, name!))).toThrow('EIO');
    await waitUntil(server, 'the message', () => server.output().includes('a read of a mounted image failed'));
  });

  it('takes the place of EROFS where only root could mount that', async () => {
    const target = join(dir, 'instead');
    mkdirSync(target);
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) };
    const user = vi.spyOn(process, 'getuid').mockReturnValue(1000);
    await using mounted = await mountImage(`rafs:${fixture('rafs/default/bootstrap')}`, target, { log }).finally(() =>
      user.mockRestore(),
    );
    expect(mounted.driver).toBe('fuse-native');
    expect(warnings).toEqual([expect.stringContaining('slower')]);
    expect((await readAtRandom(target, 1))[0]).toEqual(
      digestsOf(readRows(fixture(`truth/${LAYER1}.merged.jsonl`)).map(asText)),
    );
  });

  it('is refused where an image is mounted, and for an ordinary image', async () => {
    const { target } = await mount(`rafs:${fixture('rafs/default/bootstrap')}`);
    await expect(mountImage(`rafs:${fixture('rafs/default/bootstrap')}`, target)).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    });
    const plain = join(dir, 'plain');
    mkdirSync(plain);
    const ordinary = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
    await expect(mountImage(ordinary, plain, { driver: 'fuse-native' })).rejects.toMatchObject({ code: 'USAGE' });
  });
});
