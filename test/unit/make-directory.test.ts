import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeDirectory, makePrivateDirectory } from '../../src/make-directory.ts';

const root = mkdtempSync(join(tmpdir(), 'lacuna-mkdir-'));
afterAll(() => rmSync(root, { recursive: true }));

describe('makeDirectory', () => {
  it('makes what is missing with its mode, and is content with what is there', async () => {
    await makeDirectory(join(root, 'a', 'b'), 0o700);
    await makeDirectory(join(root, 'a', 'b', 'c'), 0o750);
    await makeDirectory(join(root, 'a'), 0o755);
    const modes = ['a', 'a/b', 'a/b/c'].map((name) => statSync(join(root, name)).mode & 0o777);
    expect(modes).toEqual([0o700, 0o700, 0o750]);
  });

  it('lets many make one path at once', async () => {
    const path = join(root, 'many', 'x', 'y', 'z');
    await Promise.all(Array.from({ length: 20 }, () => makeDirectory(path)));
    expect(statSync(path).isDirectory()).toBe(true);
  });

  it('fails where a file is in the way, and at once where nothing can be made', async () => {
    writeFileSync(join(root, 'file'), '');
    await expect(makeDirectory(join(root, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeDirectory(join(root, 'file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeDirectory('/proc/no-such-process/a/b')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('makePrivateDirectory', () => {
  it('shuts others out of what it makes and of what is there', async () => {
    const path = join(root, 'private');
    const mode = () => statSync(path).mode & 0o777;
    await makePrivateDirectory(path);
    expect(mode()).toBe(0o700);
    chmodSync(path, 0o777);
    await makePrivateDirectory(path);
    expect(mode()).toBe(0o700);
  });
});
