/** A path where the name of an image is expected: the reference that was meant is named, whatever the file is. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { isLacunaError, type LacunaError } from '../../../src/errors.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { refuseBarePath } from '../../../src/registry/local/recognize.ts';
import { END, member } from '../../kit/tar.ts';

describe('a path without a transport', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-paths-'));
  const before = process.cwd();

  const tar = (...names: string[]): Buffer =>
    Buffer.concat([...names.map((name) => member({ name, data: '{}' })), END]);

  beforeAll(() => {
    process.chdir(dir);
    mkdirSync('layout');
    writeFileSync('layout/oci-layout', '{"imageLayoutVersion":"1.0.0"}');
    mkdirSync('image');
    for (const name of ['manifest.json', 'version']) writeFileSync(`image/${name}`, '');
    mkdirSync('nginx');
    writeFileSync('oci.tar', tar('blobs/', './index.json', './oci-layout'));
    writeFileSync('docker.tar', tar('a/layer.tar', 'manifest.json'));
    writeFileSync('25.tar', tar('index.json', 'manifest.json', 'oci-layout'));
    writeFileSync('tree.tar', tar('etc/passwd'));
    writeFileSync('packed', gzipSync(tar('manifest.json')));
    writeFileSync('d.db', 'SQLite format 3\0…');
    const boot = Buffer.alloc(4096);
    boot.writeUInt32LE(0xe0f5e1e2, 1024);
    writeFileSync('boot', boot);
    writeFileSync('notes', 'to be done');
  });
  afterAll(() => {
    process.chdir(before);
    rmSync(dir, { recursive: true });
  });

  function refusal(text: string): LacunaError {
    try {
      refuseBarePath(text);
    } catch (error) {
      if (isLacunaError(error)) return error;
      throw error;
    }
    throw new Error(`${text} was not refused`);
  }

  it.each([
    ['layout', 'oci:layout (or docker://layout for the repository)'],
    ['./layout', 'oci:./layout'],
    ['layout:v1', 'oci:layout:v1 (or docker://layout:v1 for the repository)'],
    ['image', 'dir:image (or docker://image for the repository)'],
    ['oci.tar', 'oci-archive:oci.tar (or docker://oci.tar for the repository)'],
    ['./oci.tar:v1', 'oci-archive:./oci.tar:v1'],
    ['docker.tar', 'docker-archive:docker.tar (or docker://docker.tar for the repository)'],
    ['25.tar', 'oci-archive:25.tar'],
    ['./packed', 'docker-archive:./packed'],
    ['./d.db', 'sqlite:./d.db'],
    ['./boot', 'rafs:./boot'],
    ['dri:image', 'did you mean dir:image? (or docker://dri:image for the repository)'],
  ])('%s', (text, hint) => {
    expect(refusal(text)).toMatchObject({ code: 'REFERENCE', subject: text, hint });
  });

  it.each(['./nginx', './notes', 'tree.tar'])('%s is a path without an image', (text) => {
    expect(refusal(text).message).toMatch(/there is no image in it/);
  });

  it.each(['./nothing', '/nowhere', '../nothing', 'new.tar', 'new.tar:v1', 'chunks.db'])(
    '%s is a path of nothing',
    (text) => {
      expect(refusal(text).message).toMatch(/does not exist/);
    },
  );

  it.each([
    'nginx',
    'nginx:1',
    'notes',
    'debian',
    'r.example/x.tar',
    'docker://layout',
    'oci:layout',
    'dri:latest',
    'a/layout',
  ])('%s is left alone', (text) => {
    expect(() => refuseBarePath(text)).not.toThrow();
  });

  it('is refused by the library, too', async () => {
    await expect(inspect('oci.tar')).rejects.toMatchObject({ code: 'REFERENCE', subject: 'oci.tar' });
    await expect(convert('oci:layout:v1', './new.tar')).rejects.toMatchObject({ subject: './new.tar' });
  });
});
