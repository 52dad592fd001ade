/** Whatever goes wrong inside, what leaves is a LacunaError that names operation and subject and keeps the cause. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { callback, isLacunaError, type LacunaError } from '../../../src/errors.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { Authorizer } from '../../../src/registry/http/auth.ts';
import { RegistryStore } from '../../../src/registry/http/client.ts';
import { ForeignLayers } from '../../../src/registry/http/foreign.ts';
import { RegistryHttp } from '../../../src/registry/http/http.ts';
import type { Transport, TransportResponse } from '../../../src/registry/http/transport.ts';
import { openStore } from '../../../src/registry/open.ts';
import { withOwnErrors } from '../../../src/registry/own-errors.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { collect, describeBytes } from './contract.ts';
import { QUICK, referenceTo } from './kit.ts';

class Strange extends Error {}

const blob = describeBytes(randomBytes(100));
const manifest = { ...describeBytes(Buffer.from('{}')), mediaType: 'application/vnd.oci.image.manifest.v1+json' };

/** Everything that a store can be asked for. */
const CALLS: Readonly<Record<string, (store: ImageStore) => Promise<unknown>>> = {
  resolve: (store) => store.resolve(null),
  manifest: (store) => store.manifest(manifest),
  config: (store) => store.manifest({ ...blob, mediaType: 'application/json' }),
  open: (store) => collect(store.open(blob)),
  range: (store) => collect(store.open(blob, { offset: 10, length: 10 })),
  has: (store) => store.has(blob),
  upload: async (store) => {
    const upload = await store.upload();
    await upload.write(Buffer.alloc(5 * 1024 * 1024));
    await upload.commit(
      `sha256:${createHash('sha256')
        .update(Buffer.alloc(5 * 1024 * 1024))
        .digest('hex')}`,
      5 * 1024 * 1024,
    );
  },
  small: async (store) => {
    const upload = await store.upload();
    await upload.write(Buffer.from('x'));
    await upload.commit(describeBytes(Buffer.from('x')).digest, 1);
  },
  pushManifest: (store) => store.pushManifest(Buffer.from('{}'), manifest.mediaType, 'x'),
  referrers: (store) => store.referrers(manifest.digest, null),
};

async function thrown(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return null;
}

/** Asserts that the error is one for people. */
function expectOurs(error: unknown): asserts error is LacunaError {
  expect(isLacunaError(error), String(error)).toBe(true);
  const { op, subject, message } = error as LacunaError;
  expect(op).toBeTruthy();
  expect(subject).toBeTruthy();
  // The command prints both beside the message.
  expect(message.startsWith(`${op}:`) || message.startsWith(`${op} ${subject}`)).toBe(false);
}

function registryStore(http: RegistryHttp, transport: Transport): RegistryStore {
  const foreign = new ForeignLayers({
    policy: 'never',
    registry: 'registry.test',
    connect: async () => transport,
    retry: { ...QUICK, attempts: 1 },
    log: silentLog,
  });
  return new RegistryStore({ reference: referenceTo('registry.test'), http, transport, foreign });
}

describe('a transport that fails in a way nobody knows', () => {
  const answer = (change: Partial<TransportResponse>): Transport['request'] => {
    const body = async function* () {
      yield Buffer.from('{}');
    };
    return async () => ({ status: 200, header: () => null, body: body(), ...change });
  };
  const failing = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.from('{');
    throw new Strange('in the body');
  };
  const fails = (): never => {
    throw new Strange('strange');
  };
  const requests: Readonly<Record<string, Transport['request']>> = {
    'the request': async () => fails(),
    'the request, at once': fails,
    'the request, with no error at all': () => Promise.reject('a string'),
    'the request, with undefined': () => Promise.reject(undefined),
    'a header': answer({ header: fails }),
    'the body': answer({ body: failing() }),
    'an error’s body': answer({ status: 500, body: failing() }),
    'a 401’s header': answer({ status: 401, header: fails }),
  };
  const open = (request: Transport['request']): ImageStore => {
    const base = new URL('http://registry.test/v2/');
    const transport: Transport = { request, close: async () => {} };
    const authorizer = new Authorizer({ host: 'registry.test', base, credentials: null, transport });
    const retry = { ...QUICK, attempts: 1 };
    const http = new RegistryHttp({ base, transport, authorizer, retry, log: silentLog });
    return withOwnErrors(registryStore(http, transport));
  };

  describe.each(Object.entries(requests))('%s', (_name, request) => {
    test.each(Object.entries(CALLS))('%s', async (name, call) => {
      const error = await thrown(call(open(request)));
      // A list of referrers that is none, and a HEAD whose body is nothing, are no failure.
      if (error !== null || !['referrers', 'has', 'pushManifest'].includes(name)) expectOurs(error);
    });
  });
});

describe('a function of the caller', () => {
  test('that gives credentials', async () => {
    const cause = new Strange('no key ring');
    const request: Transport['request'] = async () => ({
      status: 401,
      header: (name) => (name === 'www-authenticate' ? 'Basic realm="x"' : null),
      body: (async function* () {})(),
    });
    const transport: Transport = { request, close: async () => {} };
    const base = new URL('http://registry.test/v2/');
    for (const credentials of [
      () => Promise.reject(cause),
      (): never => {
        throw cause;
      },
    ]) {
      const authorizer = new Authorizer({ host: 'registry.test', base, credentials, transport });
      const http = new RegistryHttp({ base, transport, authorizer, retry: { ...QUICK, attempts: 1 }, log: silentLog });
      const store = withOwnErrors(registryStore(http, transport));
      const error = await thrown(store.resolve(null));
      expectOurs(error);
      expect(error).toMatchObject({ code: 'INTERNAL', op: 'authenticate', subject: 'registry.test', cause });
    }
  });

  test('that is told of progress', () => {
    const cause = new Strange('no terminal');
    const told = callback(() => {
      throw cause;
    }, 'onProgress');
    const error = (() => {
      try {
        return told();
      } catch (failure) {
        return failure;
      }
    })();
    expectOurs(error);
    expect(error).toMatchObject({ code: 'INTERNAL', subject: 'onProgress', cause });
    expect(callback(undefined, 'onProgress')()).toBeUndefined();
  });
});

describe('a file system that is not what it should be', () => {
  const dir = mkdtempSync(join(tmpdir(), 'own-errors-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'file'), 'x');
  mkdirSync(join(dir, 'folder.tar'));
  /** An OCI layout whose blobs are directories, and whose index is, too. */
  const odd = join(dir, 'odd');
  for (const { digest } of [blob, manifest])
    mkdirSync(join(odd, 'blobs', digest.replace(':', '/')), { recursive: true });
  mkdirSync(join(odd, 'index.json'));
  writeFileSync(join(odd, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const flat = join(dir, 'flat');
  mkdirSync(join(flat, 'manifest.json'), { recursive: true });
  writeFileSync(join(flat, 'version'), 'Directory Transport Version: 1.1\n');

  const places = ['file/x', 'file', 'odd', 'flat', 'folder.tar', 'missing', 'a\0b', `${'n'.repeat(300)}`];
  const forms = ['oci', 'dir', 'oci-archive', 'docker-archive'] as const;
  const cases = places.flatMap((place) =>
    forms.flatMap((form) => [true, false].map((create) => ({ form, place, create }))),
  );
  test.each(cases)('$form:$place, create $create', async ({ form, place, create }) => {
    const path = join(dir, place);
    const reference = { transport: form, path, ref: 'x' } as Parameters<typeof openStore>[0];
    let store: ImageStore;
    try {
      store = await openStore(reference, { create: create && place !== 'missing' });
    } catch (error) {
      expectOurs(error);
      return;
    }
    for (const call of Object.values(CALLS)) {
      const error = await thrown(call(store));
      if (error !== null) expectOurs(error);
    }
    expectOurs(await thrown(store.resolve('nothing-of-this-name')));
    const end = await thrown(Promise.resolve(store[Symbol.asyncDispose]()));
    if (end !== null) expectOurs(end);
  });

  test('an error of the file system keeps its cause', async () => {
    const error = await thrown(openStore(parseReference(`oci:${join(dir, 'file')}:x`), { create: true }));
    expectOurs(error);
    expect(error.cause).toMatchObject({ code: 'ENOTDIR' });
  });
});
