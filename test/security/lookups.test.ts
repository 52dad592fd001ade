/** Host names whose name servers never answer, and who waits for them. */
import type { LookupAddress } from 'node:dns';
import { describe, expect, it } from 'vitest';
import { resolve } from '../../src/native/resolve.ts';
import { Lookups, MAX_LOOKUPS, MAX_REGISTRY_LOOKUPS } from '../../src/registry/http/lookups.ts';
import { settled } from '../kit/fetching.ts';

const FOUND: LookupAddress[] = [
  { address: '192.0.2.1', family: 4 },
  { address: '2001:db8::1', family: 6 },
];

/** Lookups of which those of `silent…` never end, until they are released. */
function setUp(timeout = 10_000) {
  const asked: string[] = [];
  const held: (() => void)[] = [];
  const lookups = new Lookups({
    timeout,
    resolve: async (name) => {
      asked.push(name);
      if (name.startsWith('silent')) await new Promise<void>((release) => held.push(release));
      return FOUND;
    },
  });
  const release = (): void => {
    for (const one of held.splice(0)) one();
  };
  return { lookups, asked, release };
}

describe('names that are never found', () => {
  it('keep no other registry waiting, and have few threads of one registry', async () => {
    const { lookups, asked, release } = setUp();
    const hostile = Array.from({ length: 20 }, (_, index) => lookups.find('hostile', `silent${index}`));
    await settled();
    expect(asked).toEqual(['silent0', 'silent1']);
    expect(await lookups.find('healthy', 'registry.test')).toEqual(FOUND);
    // Given up or not, a lookup holds its thread until the system has ended it; then the next ones come.
    release();
    await settled();
    expect(asked.length).toBe(1 + 2 * MAX_REGISTRY_LOOKUPS);
    for (let rounds = 0; rounds < 20; rounds++) {
      release();
      await settled();
    }
    expect(await Promise.all(hostile)).toHaveLength(20);
  });

  it('end with an error of their own, and what still waited for its turn is never begun', async () => {
    const { lookups, asked, release } = setUp(200);
    const asking = Array.from({ length: 3 }, (_, index) => lookups.find('hostile', `silent${index}`));
    for (const one of asking) await expect(one).rejects.toMatchObject({ code: 'LOOKUP_TIMEOUT' });
    release();
    await settled();
    expect(asked).toEqual(['silent0', 'silent1']);
  });

  it('are bounded in all, whoever asks', async () => {
    const { lookups, asked, release } = setUp();
    const all = Array.from({ length: MAX_LOOKUPS + 2 }, (_, i) => lookups.find(`registry${i}`, `silent${i}`));
    await settled();
    expect(asked.length).toBe(MAX_LOOKUPS);
    release();
    await settled();
    release();
    expect(await Promise.all(all)).toHaveLength(MAX_LOOKUPS + 2);
  });
});

it('one name is looked up once at a time, whoever asks', async () => {
  const { lookups, asked, release } = setUp();
  const both = [lookups.find('a', 'silent'), lookups.find('b', 'silent')];
  await settled();
  release();
  expect(await Promise.all(both)).toEqual([FOUND, FOUND]);
  expect(asked).toEqual(['silent']);
  void lookups.find('a', 'again');
  expect(asked).toEqual(['silent', 'again']);
});

it.each([
  [{ all: true }, [FOUND]],
  [{}, ['192.0.2.1', 4]],
  [{ family: 6 }, ['2001:db8::1', 6]],
  [{ all: true, family: 4 }, [[FOUND[0]]]],
])('sockets that ask with %j get what Node would give them', async (options, expected) => {
  const { lookups } = setUp();
  const told = await new Promise<unknown[]>((fulfil) => {
    lookups.for('registry')('name', options, (error, ...rest) => fulfil([error, ...rest]));
  });
  expect(told).toEqual([null, ...expected]);
});

it('the system finds what it knows, and says what it does not know as Node does', async () => {
  expect(await resolve('127.0.0.7')).toEqual([{ address: '127.0.0.7', family: 4 }]);
  await expect(resolve('no-such-name.invalid')).rejects.toMatchObject({
    code: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN)$/),
  });
});
