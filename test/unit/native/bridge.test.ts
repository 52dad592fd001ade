/** The bridge itself: panics, wrong types, worker threads, and that the typed list is true. */
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, vi } from 'vitest';
import { isLacunaError } from '../../../src/errors.ts';
import { addon, addonProblem } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');
const ADDON = new URL('../../../dist/native/lacuna.node', import.meta.url);

describe.skipIf(skip.reason)('the bridge', () => {
  it('turns a panic into an INTERNAL error', () => {
    const panic = expect.objectContaining({ code: 'INTERNAL', message: 'native code panicked: on purpose' });
    expect(() => addon().panicForTest()).toThrow(panic);
  });

  it('turns a panic in asynchronous work into an INTERNAL rejection', async () => {
    const error: unknown = await addon()
      .panicForTestAsync()
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'INTERNAL', message: 'native code panicked: on purpose' });
    expect(isLacunaError(error)).toBe(true);
    // And the process still works.
    expect(addon().crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  });

  it('refuses a wrong type without harm', () => {
    expect(() => addon().zstdCompress('text' as unknown as Buffer, 3)).toThrow(Error);
  });

  it('has every function of the typed list that is built, and none that is not listed', () => {
    const source = readFileSync(new URL('../../../src/native/addon.ts', import.meta.url), 'utf8');
    const body = /export interface Addon \{\n(.*?)\n\}/s.exec(source)![1]!;
    const listed = [...body.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]!);
    const native = addon() as unknown as Record<string, unknown>;
    // Handles are classes natively, and interfaces in the list.
    const [classes, functions] = [/^[A-Z]/, /^[a-z]/].map((kind) =>
      Object.keys(native).filter((name) => kind.test(name)),
    );
    expect(classes!.filter((name) => !source.includes(`export interface ${name} `))).toEqual([]);
    expect(functions!.filter((name) => !listed.includes(name))).toEqual([]);
    expect(listed.filter((name) => typeof native[name] !== 'function')).toEqual([]);
  });

  it('speaks of the version of the package', () => {
    const manifest = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(addon().version()).toBe(manifest.version);
    expect(addonProblem()).toBeNull();
  });

  it('survives a worker thread that ends in the middle of native work', async () => {
    const code = `
      const { createRequire } = require('node:module');
      const { parentPort } = require('node:worker_threads');
      const addon = require(${JSON.stringify(ADDON.pathname)});
      const stream = addon.layerStream('gzip');
      stream.read(Buffer.alloc(10), 0);
      addon.hashChunks(Buffer.alloc(8 << 20), Uint32Array.from([0, 8 << 20]), 1);
      parentPort.postMessage('busy');
      setInterval(() => {}, 1000);`;
    const worker = new Worker(code, { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    const digest = await addon().hashChunks(Buffer.alloc(4), Uint32Array.from([0, 4]), 1);
    expect(digest.toString('hex')).toBe('df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119');
  });

  it('keeps a buffer alive while asynchronous work uses it', async () => {
    const work = Array.from({ length: 50 }, (_, index) => {
      const data = Buffer.allocUnsafeSlow(1 << 20).fill(index);
      return addon().hashChunks(data, Uint32Array.from([0, 1 << 20]), 1);
    });
    // Pressure on the collector: the buffers above have no other reference.
    for (let turn = 0; turn < 50; turn += 1) Buffer.allocUnsafeSlow(4 << 20).fill(0xee);
    const digests = await Promise.all(work);
    const again = await addon().hashChunks(Buffer.alloc(1 << 20, 49), Uint32Array.from([0, 1 << 20]), 1);
    expect(digests[49]!.equals(again)).toBe(true);
    expect(new Set(digests.map((digest) => digest.toString('hex'))).size).toBe(50);
  });
});

describe('without the addon', () => {
  it('says why, and what to do', async () => {
    vi.resetModules();
    vi.doMock('node:module', () => ({
      createRequire: () => () => {
        throw new Error('no such file');
      },
    }));
    try {
      const fresh = await import('../../../src/native/addon.ts');
      expect(fresh.findAddon()).toBeNull();
      expect(fresh.addonProblem()).toMatchObject({
        code: 'UNSUPPORTED',
        hint: expect.stringContaining('npm run build:native'),
      });
      expect(() => fresh.addon()).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    } finally {
      vi.doUnmock('node:module');
      vi.resetModules();
    }
  });
});
