/** The package as a program has it: what importing loads, what its functions take, and that every type has a name. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { rolldown } from 'rolldown';
import { afterAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import * as lacuna from '../../src/index.ts';
import * as reader from '../../src/reader-entry.ts';
import { importGraph, loadedWith } from '../kit/import-graph.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { typesWithoutName } from '../kit/type-names.ts';

const TAME = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
const NYDUS = `oci:${fixture('nydus-oci/index')}:index`;
const platform = 'linux/amd64';

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe('importing', () => {
  const names = readdirSync(join(checkout, 'src'), { recursive: true, encoding: 'utf8' });
  const sources = names.filter((name) => name.endsWith('.ts'));
  const graph = importGraph(new Map(sources.map((name) => [name, readFileSync(join(checkout, 'src', name), 'utf8')])));
  const heavy = ['@grpc/grpc-js', 'protobufjs', 'better-sqlite3', 'fuse-native', 'undici', 'zod', 'pino'];

  it.each(['index.ts', 'reader-entry.ts'])('%s loads no package that a program may not need', (entry) => {
    const loaded = loadedWith(graph, entry);
    expect(heavy.filter((name) => loaded.has(name))).toEqual([]);
    expect([...loaded].filter((name) => name.endsWith('.ts')).length).toBeLessThan(30);
  });

  it('lacuna/reader reaches no gRPC and no SQLite at all', () => {
    const reached = new Set(['reader-entry.ts']);
    for (const file of reached) {
      for (const { kind, target } of graph.get(file) ?? []) if (kind !== 'type' && target !== null) reached.add(target);
    }
    expect(reached.has('reader/lazy-image.ts')).toBe(true);
    expect(['@grpc/grpc-js', 'protobufjs', 'better-sqlite3'].filter((name) => reached.has(name))).toEqual([]);
  });

  it('lacuna/reader is a part of lacuna', () => {
    expect(lacuna).toMatchObject(reader);
  });

  it('has a function for every command that is not about the command line itself', () => {
    const files = readdirSync(join(checkout, 'src/cli')).filter((name) => name.endsWith('.ts'));
    const commands = files.flatMap((name) => {
      const found = /^\s+name: '([a-z]+)',$/m.exec(readFileSync(join(checkout, 'src/cli', name), 'utf8'));
      return found === null ? [] : [found[1]!];
    });
    expect(commands.length).toBeGreaterThan(18);
    const exported: Readonly<Record<string, unknown>> = { ...lacuna };
    const others = commands.filter((name) => typeof exported[name] !== 'function');
    expect(others.toSorted()).toEqual(['completion', 'dict']);
    expect(Object.values(lacuna.dict).map((action) => typeof action)).toEqual(['function', 'function', 'function']);
    expect(lacuna.export).toBe(lacuna.exportImage);
  });
});

describe('an image', () => {
  it('may be text, a parsed reference or an open store, which stays open', async () => {
    const rows = await all(lacuna.ls(TAME, { platform }));
    expect(await all(lacuna.ls(lacuna.parseReference(TAME), { platform }))).toEqual(rows);
    await using store = await lacuna.openStore(TAME);
    let disposed = 0;
    const dispose = store[Symbol.asyncDispose].bind(store);
    store[Symbol.asyncDispose] = async () => {
      disposed++;
      await dispose();
    };
    expect(await all(lacuna.ls(store, { platform }))).toEqual(rows);
    expect(await all(lacuna.cat(store, ['/etc/hostname'], { platform })).catch((error) => error.code)).toBeDefined();
    expect((await lacuna.inspect(store, { platform })).reference).toBe(TAME);
    expect((await lacuna.check(store, { platform })).ok).toBe(true);
    expect(await all(lacuna.diff(store, TAME, { platform }))).toEqual([]);
    await using image = await lacuna.openImage(store, { platform });
    expect(image.subject).toBe(TAME);
    expect(disposed).toBe(0);
  });

  it.skipIf(needs('addon').reason)('may be a store on both sides', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-stores-'));
    try {
      await using from = await lacuna.openStore(TAME);
      await using lazy = await lacuna.openStore(`oci:${dir}/lazy:lazy`, { create: true });
      await using plain = await lacuna.openStore(`oci:${dir}/plain:plain`, { create: true });
      const converted = await lacuna.convert(from, lazy);
      expect((await lazy.resolve(null)).digest).toBe(converted.digest);
      expect((await lacuna.unpack(lazy, plain, { platform })).digest).toBe((await plain.resolve(null)).digest);
      expect((await lacuna.export(lazy, join(dir, 'disk'), { platform })).reference).toBe(lazy.subject);
      expect(await all(lacuna.diff(plain, from, { platform }))).toEqual([]);
      await expect(lacuna.unpack(lazy, plain, { format: 'dir' })).rejects.toMatchObject({ code: 'USAGE' });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('that is neither is a mistake of the caller', async () => {
    await expect(lacuna.openImage(42 as unknown as string)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(lacuna.openImage(null as unknown as string)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it.each([TAME, NYDUS])('resolves paths and names entries: %s', async (reference) => {
    await using image = await lacuna.openImage(reference, { platform });
    const rows = await all(lacuna.ls(reference, { platform, recursive: true }));
    const link = rows.find(
      ({ type, path, target }) => type === 'symlink' && path === '/links/abs' && target !== undefined,
    );
    for (const row of rows) {
      const path = row.path ?? Buffer.from(row.path_b64!, 'base64');
      expect(image.resolve(path, { follow: false })?.node.type).toBe(row.type);
    }
    expect(image.resolve('/not/there')).toBeNull();
    expect(link === undefined || image.resolve('/links/abs')?.node.type !== 'symlink').toBe(true);
    const root = image.resolve('/')!;
    expect(root).toMatchObject({ path: '/', pathBytes: Buffer.from('/') });
    const names = [...lacuna.entriesOf(root.node)].map(({ name }) => name);
    expect(names).toEqual(rows.flatMap(({ path }) => /^\/([^/]+)$/.exec(path ?? '')?.[1] ?? []));
  });
});

describe('an option that is not known', () => {
  it.each<[string, () => Promise<unknown>, string]>([
    ['convert', () => lacuna.convert('oci:a', 'oci:b', { compresor: 'zstd' } as object), 'did you mean compressor?'],
    [
      'convert',
      () => lacuna.convert('oci:a', 'oci:b', { credentials: async () => null } as object),
      'source.credentials',
    ],
    ['openImage', () => lacuna.openImage(TAME, { ca: '' } as object), 'did you mean store.ca?'],
    ['openImage', () => lacuna.openImage(TAME, { store: { plainHTTP: true } } as object), 'store.plainHttp'],
    ['ls', () => all(lacuna.ls(TAME, { recursiv: true } as object)), 'did you mean recursive?'],
    ['pull', () => lacuna.pull('x', { containerd: 'x', namespace: 'x', store: {} } as never), 'it has: '],
  ])('of %s is refused with what was meant', async (op, call, hint) => {
    await expect(call()).rejects.toMatchObject({ code: 'USAGE', op, hint: expect.stringContaining(hint) });
  });

  it('includes what is no object at all', async () => {
    await expect(all(lacuna.ls(TAME, '/etc' as never))).rejects.toMatchObject({ code: 'USAGE' });
  });
});

const built = needs('dist');

describe.skipIf(built.reason)('the types', () => {
  it.each(['index', 'reader-entry'])('of %s all have a name that a program can import', (entry) => {
    expect(typesWithoutName(join(checkout, 'dist', `${entry}.d.ts`))).toEqual([]);
  });

  it('that have none are found', () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-types-'));
    try {
      writeFileSync(
        join(dir, 'a.d.ts'),
        'export interface A { b: B; }\nexport interface B { c?: readonly C[]; }\nexport type C = 1;\n',
      );
      writeFileSync(
        join(dir, 'index.d.ts'),
        "export type { A } from './a.ts';\nexport declare const f: typeof import('./f.ts').g;\n",
      );
      writeFileSync(
        join(dir, 'f.d.ts'),
        "import type { B as D } from './a.ts';\nexport declare function g(d: D): void;\n",
      );
      expect(typesWithoutName(join(dir, 'index.d.ts'))).toEqual(['a.d.ts: B', 'a.d.ts: C']);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe.skipIf(built.reason)("a program's types", () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-consumer-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it('are those of lacuna/reader, whose functions are not any', { timeout: 60_000 }, async () => {
    mkdirSync(join(dir, 'node_modules', '@types'), { recursive: true });
    symlinkSync(checkout, join(dir, 'node_modules', 'lacuna'));
    symlinkSync(join(checkout, 'node_modules', '@types', 'node'), join(dir, 'node_modules', '@types', 'node'));
    writeFileSync(join(dir, 'package.json'), '{"private":true,"type":"module"}');
    const compilerOptions = {
      ...{ target: 'es2023', lib: ['es2023', 'esnext.disposable'], module: 'nodenext', types: ['node'] },
      ...{ strict: true, noEmit: true, exactOptionalPropertyTypes: true },
    };
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    const text = [
      "import { ls, openStore, type ImageInput, type Row } from 'lacuna/reader';",
      "const input: ImageInput = await openStore('oci:x');",
      'for await (const row of ls(input, { recursive: true })) { const found: Row = row; void found; }',
    ];
    const compile = async (...more: string[]) => {
      writeFileSync(join(dir, 'program.ts'), [...text, ...more].join('\n'));
      return await run(process.execPath, [join(checkout, 'node_modules/typescript/bin/tsc'), '-p', dir]);
    };
    expect((await compile()).stdout).toBe('');
    const wrong = await compile('ls(input, { recursiv: true });').catch((error: unknown) => String(error));
    expect(typeof wrong === 'string' ? wrong : wrong.stdout).toContain('recursiv');
  });
});

describe.skipIf(built.reason)('a bundle of a program', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-bundle-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(['reader-entry', 'index'])(
    'that imports %s runs far from any package',
    { timeout: 60_000 },
    async (entry) => {
      const program = join(dir, `${entry}.mjs`);
      const library = join(checkout, 'dist', `${entry}.js`);
      expect(existsSync(library)).toBe(true);
      writeFileSync(
        program,
        `import { ls } from ${JSON.stringify(library)};\n` +
          `for await (const row of ls(${JSON.stringify(NYDUS)}, { platform: 'linux/amd64' })) console.log(row.path);\n`,
      );
      const build = await rolldown({
        input: program,
        platform: 'node',
        external: [/^(better-sqlite3|fuse-native|zstd-napi|@napi-rs\/blake-hash|@grpc\/proto-loader)$/],
        onLog: () => {},
      });
      await build.write({ dir: join(dir, `${entry}-out`), format: 'esm', entryFileNames: 'main.mjs' });
      const { stdout } = await run(process.execPath, [join(dir, `${entry}-out`, 'main.mjs')]);
      expect(stdout.split('\n')).toContain('/etc');
      expect(dirname(program)).toBe(dir);
    },
  );
});
