/** Running digests, off the JavaScript thread. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';
import { noise, text } from './streams.ts';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const skip = needs('addon');

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
