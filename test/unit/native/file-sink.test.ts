/** Files that are written and hashed natively, and running digests without a file. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';
import { noise, text } from './streams.ts';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const skip = needs('addon');

describe.skipIf(skip.reason)('a file sink', () => {
  let dir = '';
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-sink-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('writes appends in the order of the calls, whether awaited or not', async () => {
    const path = join(dir, 'ordered');
    const sink = addon().fileSink(path);
    const parts = Array.from({ length: 40 }, (_, index) => noise((index % 7) * 40_000 + index, index + 1));
    const appended = parts.map((part) => sink.append(part, part.length));
    const finished = sink.finish(true);
    const expected = Buffer.concat(parts);
    expect(await finished).toEqual({ digest: sha256(expected), size: expected.length });
    await Promise.all(appended);
    expect(readFileSync(path).equals(expected)).toBe(true);
  });

  it('takes its turn with digest', async () => {
    const sink = addon().fileSink(join(dir, 'digest'));
    const [one, two] = [text(100_000), text(7, 3)];
    const digests = [sink.digest()];
    void sink.append(one, one.length);
    digests.push(sink.digest());
    void sink.append(two, two.length);
    digests.push(sink.digest());
    const all = Buffer.concat([one, two]);
    expect(await Promise.all(digests)).toEqual([sha256(Buffer.alloc(0)), sha256(one), sha256(all)]);
    expect((await sink.finish(false)).digest).toBe(sha256(all));
  });

  it('appends only as many bytes as it is told', async () => {
    const path = join(dir, 'part');
    const sink = addon().fileSink(path);
    await sink.append(Buffer.from('0123456789'), 4);
    await sink.append(Buffer.from('0123456789'), 0);
    await sink.finish(false);
    expect(readFileSync(path, 'latin1')).toBe('0123');
    const other = addon().fileSink(path);
    for (const length of [11, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      await expect(other.append(Buffer.alloc(10), length)).rejects.toMatchObject({
        code: 'USAGE',
        message: expect.stringContaining('length'),
      });
    }
    other.close();
  });

  it('empties a file that is there', async () => {
    const path = join(dir, 'there');
    writeFileSync(path, 'something longer');
    const sink = addon().fileSink(path);
    await sink.append(Buffer.from('new'), 3);
    await sink.finish(false);
    expect(readFileSync(path, 'latin1')).toBe('new');
  });

  it('close keeps what was appended before; after it, and after finish, the sink refuses', async () => {
    const path = join(dir, 'closed');
    const sink = addon().fileSink(path);
    const part = text(1_000_000);
    const appended = sink.append(part, part.length);
    sink.close();
    sink.close();
    await appended;
    expect(readFileSync(path).equals(part)).toBe(true);
    const closed = { code: 'PRECONDITION', message: 'the file is closed' };
    await expect(sink.append(part, 1)).rejects.toMatchObject(closed);
    await expect(sink.digest()).rejects.toMatchObject(closed);
    const finished = addon().fileSink(path);
    await finished.finish(false);
    await expect(finished.append(part, 1)).rejects.toMatchObject(closed);
    await expect(finished.finish(false)).rejects.toMatchObject(closed);
  });

  it('says which file could not be created', () => {
    const path = join(dir, 'missing', 'file');
    expect(() => addon().fileSink(path)).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND', message: expect.stringContaining(path) }),
    );
    expect(() => addon().fileSink(dir)).toThrow(expect.objectContaining({ code: 'SYSTEM' }));
  });

  it.skipIf(!existsSync('/dev/full'))('a full disk is an error that stays', async () => {
    const sink = addon().fileSink('/dev/full');
    const full = { code: 'SYSTEM', message: expect.stringMatching(/^write \/dev\/full: No space left/) };
    await expect(sink.append(text(10), 10)).rejects.toMatchObject(full);
    await expect(sink.append(text(10), 10)).rejects.toMatchObject(full);
    await expect(sink.finish(false)).rejects.toMatchObject(full);
    sink.close();
  });
});

describe.skipIf(skip.reason)('a running digest', () => {
  it('takes updates and digests in the order of the calls', async () => {
    const stream = addon().sha256Stream();
    const [one, two] = [noise(3_000_000), text(100, 3)];
    const digests = [stream.digest()];
    void stream.update(one, one.length);
    digests.push(stream.digest());
    void stream.update(two, 50);
    digests.push(stream.digest());
    const all = Buffer.concat([one, two.subarray(0, 50)]);
    expect(await Promise.all(digests)).toEqual([sha256(Buffer.alloc(0)), sha256(one), sha256(all)]);
    await expect(stream.update(two, 101)).rejects.toMatchObject({ code: 'USAGE' });
  });
});
