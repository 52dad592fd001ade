/** One contract, every store: our client with both transports against two registries, and OCI layouts. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { dockerConfigCredentials } from '../../../src/access/credentials.ts';
import type { DockerReference } from '../../../src/image/reference.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { StoreOptions } from '../../../src/registry/store.ts';
import { type DockerRegistry, dockerRegistry } from '../../kit/docker-registry.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import { needs } from '../../kit/skip.ts';
import { type OpenNamed, referrersContract, storeContract } from './contract.ts';
import { openPacked } from './packed.ts';

const reference = (host: string, repository: string, tag: string | null): DockerReference => ({
  transport: 'docker',
  host,
  repository,
  tag,
  digest: null,
});

const credentials: StoreOptions['credentials'] = async () => ({ username: USER, password: PASSWORD });
const retry = { minDelay: 1, maxDelay: 20 };

describe.each(['undici', 'node-fetch'] as const)('a registry over %s', (transport) => {
  describe.each(['token', 'basic', null] as const)('with %s authentication', (auth) => {
    let registry: TestRegistry;
    beforeAll(async () => {
      registry = await startRegistry({ auth });
    });
    afterAll(async () => {
      expect(registry.uploads.open).toBe(0);
      await registry.close();
    });
    storeContract((name, tag) => openStore(reference(registry.host, name, tag), { transport, credentials, retry }));
  });

  describe('that lists referrers itself, two a page', () => {
    let registry: TestRegistry;
    beforeAll(async () => {
      registry = await startRegistry({ referrers: { perPage: 2 } });
    });
    afterAll(async () => {
      const tags = [...registry.storage.repositories.values()].flatMap(({ tags }) => [...tags.keys()]);
      expect(tags.filter((tag) => tag.startsWith('sha256-'))).toEqual([]);
      await registry.close();
    });
    referrersContract((name, tag) => openStore(reference(registry.host, name, tag), { transport, retry }));
  });

  describe('that wants absolute locations and large chunks', () => {
    let registry: TestRegistry;
    beforeAll(async () => {
      registry = await startRegistry({ absoluteLocations: true, chunkMinLength: 10 * 1024 * 1024 });
    });
    afterAll(() => registry.close());
    storeContract((name, tag) => openStore(reference(registry.host, name, tag), { transport, retry }));
  });

  const skip = needs('docker-registry');
  describe.skipIf(skip.reason)('that is docker-registry', () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-registry-'));
    let registry: DockerRegistry;
    beforeAll(async () => {
      registry = await dockerRegistry(dir);
    });
    afterAll(async () => {
      await registry[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    });
    storeContract((name, tag) =>
      openStore(reference(registry.address, name, tag), {
        transport,
        retry,
        credentials: dockerConfigCredentials({ dir }),
      }),
    );
  });
});

describe('an OCI layout', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-layout-'));
  afterAll(() => {
    const left = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => /tmp/.test(name));
    rmSync(dir, { recursive: true });
    expect(left).toEqual([]);
  });
  storeContract((name, ref) => openStore({ transport: 'oci', path: join(dir, name), ref }, { create: true }));
});

describe('a directory with one image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-dir-'));
  afterAll(() => {
    const left = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => /tmp/.test(name));
    rmSync(dir, { recursive: true });
    expect(left).toEqual([]);
  });
  storeContract((name) => openStore({ transport: 'dir', path: join(dir, name) }, { create: true }), {
    nameless: true,
    noReferrers: true,
  });
});

describe.each(['oci-archive', 'docker-archive'] as const)('a new %s', (transport) => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-archive-'));
  afterAll(() => {
    const left = readdirSync(dir).filter((name) => !name.endsWith('.tar'));
    rmSync(dir, { recursive: true });
    expect(left).toEqual([]);
  });
  const open: OpenNamed = (name, ref) =>
    openStore({ transport, path: join(dir, `${name}.tar`), ref }, { create: true });
  storeContract(open, { noIndexes: transport === 'docker-archive', noReferrers: transport === 'docker-archive' });
});

const skipTar = needs('tar');
describe.skipIf(skipTar.reason)('an oci-archive that tar made', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-packed-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  storeContract((name, ref) => openPacked(join(dir, name), ref));
});
