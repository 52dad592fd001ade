/** The direction of imports: which module may know which, and what is loaded only when it is needed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import {
  cyclesOf,
  type ImportGraph,
  importGraph,
  importsOf,
  loadedWith,
  withoutComments,
} from '../kit/import-graph.ts';

/**
 * Module → the modules it may import, besides itself. A module is a folder of `src`, or a file that stands for itself.
 * Each names only modules above it. What is above the line is everybody's below it, as far as {@link BARE} does not say less.
 */
const MODULES: Readonly<Record<string, readonly string[]>> = {
  'secrets.ts': [],
  'errors.ts': ['secrets.ts'],
  'suggest.ts': [],
  'printable.ts': [],
  'make-directory.ts': [],
  'open-file.ts': ['errors.ts'],
  observe: ['errors.ts', 'secrets.ts', 'printable.ts'],
  config: ['errors.ts', 'suggest.ts', 'observe', 'open-file.ts'],
  // ―――
  binary: [],
  native: [],
  grpc: ['native'],
  image: [],
  // The contract between formats, which make chunk tables, and the data plane, which serves them.
  'blob/table.ts': ['native'],
  tree: ['binary', 'blob/table.ts'],
  access: ['image'],
  registry: ['native', 'image', 'access', 'tree'],
  blob: ['native', 'image', 'registry', 'blob/table.ts'],
  formats: ['binary', 'native', 'image', 'blob/table.ts', 'tree'],
  fetch: ['native', 'registry', 'blob/table.ts', 'blob'],
  cache: ['native', 'blob/table.ts', 'blob', 'formats'],
  reader: ['native', 'image', 'registry', 'blob/table.ts', 'blob', 'tree', 'formats', 'cache'],
  inspect: ['native', 'image', 'registry', 'blob/table.ts', 'tree', 'formats', 'reader'],
  check: ['binary', 'native', 'image', 'registry', 'blob/table.ts', 'blob', 'tree', 'formats', 'reader'],
  dict: ['native', 'image', 'registry', 'blob/table.ts', 'blob', 'tree', 'formats', 'reader'],
  convert: ['native', 'image', 'registry', 'blob/table.ts', 'tree', 'formats', 'reader', 'dict'],
  unpack: ['native', 'image', 'registry', 'tree', 'reader'],
  daemon: ['native', 'grpc', 'access', 'registry', 'blob/table.ts', 'blob', 'fetch', 'formats', 'cache'],
  mount: ['native', 'image', 'registry', 'tree', 'formats', 'cache', 'reader', 'daemon'],
  doctor: ['native', 'image', 'registry', 'tree', 'formats', 'reader', 'daemon', 'mount'],
  snapshotter: ['native', 'grpc', 'image', 'access', 'registry', 'cache', 'reader', 'daemon', 'mount', 'doctor'],
  containerd: ['grpc', 'image', 'registry', 'reader', 'snapshotter'],
  cli: [
    'image',
    'access',
    'registry',
    'tree',
    'reader',
    'inspect',
    'check',
    'dict',
    'convert',
    'unpack',
    'daemon',
    'mount',
    'doctor',
    'snapshotter',
    'containerd',
  ],
  'guard.ts': [],
  // Types alone.
  'option-keys.ts': [
    'guard.ts',
    'access',
    'registry',
    'reader',
    'inspect',
    'check',
    'convert',
    'unpack',
    'daemon',
    'mount',
    'doctor',
    'snapshotter',
    'containerd',
  ],
  'reader-entry.ts': [
    'guard.ts',
    'option-keys.ts',
    'native',
    'blob/table.ts',
    'image',
    'access',
    'formats',
    'registry',
    'tree',
    'reader',
    'inspect',
    'check',
  ],
  'index.ts': [
    'guard.ts',
    'option-keys.ts',
    'reader-entry.ts',
    'formats',
    'image',
    'access',
    'registry',
    'tree',
    'reader',
    'inspect',
    'check',
    'dict',
    'convert',
    'unpack',
    'daemon',
    'mount',
    'doctor',
    'snapshotter',
    'containerd',
  ],
};

const EVERYBODYS = [
  'secrets.ts',
  'errors.ts',
  'suggest.ts',
  'printable.ts',
  'make-directory.ts',
  'open-file.ts',
  'observe',
  'config',
];
/** Of everybody's modules these know errors and their texts alone, not even the logger or the settings. */
const ERRORS = ['errors.ts', 'suggest.ts', 'printable.ts'];
const BARE = new Set(['binary', 'native', 'grpc', 'image', 'blob/table.ts', 'tree', 'formats']);

const moduleOf = (path: string): string => (path in MODULES ? path : path.split('/')[0]!);

function mayImport(module: string): readonly string[] {
  if (EVERYBODYS.includes(module)) return [module, ...MODULES[module]!];
  return [module, ...MODULES[module]!, ...(BARE.has(module) ? ERRORS : EVERYBODYS)];
}

/** Imports that a module may not have. */
function misdirected(graph: ImportGraph): string[] {
  return [...graph].flatMap(([path, imports]) => {
    const module = moduleOf(path);
    if (!(module in MODULES)) return [`src/${path}: no module is called ${module}`];
    const allowed = mayImport(module);
    const wrong = imports.filter(
      ({ target }) => target !== null && graph.has(target) && !allowed.includes(moduleOf(target)),
    );
    return wrong.map(({ target }) => `src/${path} imports src/${target}: ${module} may import ${allowed.join(', ')}`);
  });
}

function sourcesOf(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

const packageOf = (target: string): string => /^(?:@[^/]+\/)?[^/]+/.exec(target)![0];

const read = (name: string): string => readFileSync(join(checkout, name), 'utf8');

describe('imports', () => {
  let sources: Map<string, string>;
  let graph: ImportGraph;
  let declared: { dependencies: Record<string, string>; optionalDependencies: Record<string, string> };

  beforeAll(() => {
    sources = sourcesOf(join(checkout, 'src'));
    graph = importGraph(sources);
    declared = JSON.parse(read('package.json')) as typeof declared;
  });

  it('are all seen', () => {
    expect(graph.size).toBeGreaterThan(100);
    for (const [path, imports] of graph) {
      for (const { kind, target } of imports) {
        expect(target, `src/${path}: import() of what is no literal cannot be checked`).not.toBeNull();
        if (/^\.|\.ts$/.test(target!)) expect(graph.has(target!), `src/${path} imports ${target} (${kind})`).toBe(true);
      }
    }
  });

  it('go in one direction', () => {
    expect(misdirected(graph)).toEqual([]);
  });

  it('are in the order of the modules, which is that of ARCHITECTURE.md', () => {
    const order = Object.keys(MODULES);
    for (const [module, names] of Object.entries(MODULES)) {
      for (const name of names)
        expect(order.indexOf(name), `${module} names ${name}`).toBeLessThan(order.indexOf(module));
    }
    const table = [...read('ARCHITECTURE.md').matchAll(/^\| (`src\/.*?) \|/gm)].flatMap(([, cell]) => {
      return [...cell!.matchAll(/`src\/([^`]+)`/g)].map(([, name]) => name!);
    });
    const drawn = order.filter((module) => module !== 'blob/table.ts');
    expect(table.map((name) => name.replace('formats/rafs', 'formats'))).toEqual(drawn);
  });

  it('have no cycles', () => {
    expect(cyclesOf(graph).map((cycle) => cycle.join(' → '))).toEqual([]);
  });

  it('are of declared dependencies, and optional ones are loaded where they are needed', () => {
    const problems = [...graph].flatMap(([path, imports]) =>
      imports
        .filter(({ target }) => target !== null && !graph.has(target) && !target.startsWith('node:'))
        .flatMap(({ kind, target }) => {
          const name = packageOf(target!);
          if (name in declared.dependencies) return [];
          if (!(name in declared.optionalDependencies)) return [`src/${path}: ${name} is no dependency`];
          return kind === 'static' ? [`src/${path}: ${name} is optional, so it is not imported statically`] : [];
        }),
    );
    expect(problems).toEqual([]);
  });

  it('load the addon in src/native alone', () => {
    const others = [...sources].filter(([path, source]) => {
      return moduleOf(path) !== 'native' && withoutComments(source).includes('lacuna.node');
    });
    expect(others.map(([path]) => `src/${path}`)).toEqual([]);
  });

  it('load a command only when it runs, and gRPC and SQLite behind it', () => {
    const commands = [...graph.keys()].filter((path) => path.startsWith('cli/'));
    const start = loadedWith(graph, 'cli/main.ts');
    const lazy = graph
      .get('cli/commands.ts')!
      .filter(({ kind }) => kind === 'lazy')
      .map(({ target }) => target!);
    expect(lazy.length).toBeGreaterThan(20);
    expect(lazy.filter((path) => start.has(path))).toEqual([]);
    expect(
      [...start].filter(
        (name) => !/^(?:cli|observe)\/|^(?:errors|secrets|suggest|printable)\.ts$|^node:|^commander$/.test(name),
      ),
    ).toEqual([]);
    for (const path of commands) {
      const loaded = loadedWith(graph, path);
      for (const name of ['@grpc/grpc-js', 'protobufjs', 'better-sqlite3']) {
        expect(loaded.has(name), `src/${path} loads ${name} before its command runs`).toBe(false);
      }
    }
  });
});

describe('the check of imports', () => {
  const graphOf = (files: Record<string, string>): ImportGraph => importGraph(new Map(Object.entries(files)));

  it('reads every form of import', () => {
    const source = [
      "import 'node:fs';",
      "import type { A } from './a.ts';",
      "import {\n  type B,\n  b,\n} from '../b.ts';",
      "export { c } from './c.ts';",
      "export type { D } from './d.ts';",
      "const e: typeof import('./e.ts') = await import('./e.ts');",
      'const f = await import(name);',
      "/** import g from './g.ts'; */",
      "// import h from './h.ts';",
      "export const i = 'from nowhere';",
    ];
    expect(importsOf('x/y.ts', source.join('\n'))).toEqual([
      { kind: 'static', target: 'node:fs' },
      { kind: 'type', target: 'x/a.ts' },
      { kind: 'static', target: 'b.ts' },
      { kind: 'static', target: 'x/c.ts' },
      { kind: 'type', target: 'x/d.ts' },
      { kind: 'type', target: 'x/e.ts' },
      { kind: 'lazy', target: 'x/e.ts' },
      { kind: 'lazy', target: null },
    ]);
  });

  it('names the file and the rule', () => {
    const graph = graphOf({
      'errors.ts': '',
      'observe/log.ts': '',
      'blob/table.ts': '',
      'blob/fetcher.ts': "import './table.ts';\nimport '../observe/log.ts';",
      'tree/node.ts': "import type { Chunk } from '../blob/table.ts';",
      'tree/tar.ts': "import { fetch } from '../blob/fetcher.ts';",
      'attic/old.ts': '',
    });
    expect(misdirected(graph)).toEqual([
      'src/tree/tar.ts imports src/blob/fetcher.ts: tree may import tree, binary, blob/table.ts, errors.ts, suggest.ts, printable.ts',
      'src/attic/old.ts: no module is called attic',
    ]);
  });

  it('finds a cycle through types and lazy imports', () => {
    const graph = graphOf({
      'a.ts': "import './b.ts';",
      'b.ts': "import type { C } from './c.ts';",
      'c.ts': "await import('./b.ts');",
    });
    expect(cyclesOf(graph)).toEqual([['b.ts', 'c.ts', 'b.ts']]);
  });

  it('follows static imports only', () => {
    const graph = graphOf({
      'a.ts': "import './b.ts';\nimport type { C } from './c.ts';\nawait import('./d.ts');",
      'b.ts': "import 'pino';",
      'c.ts': '',
      'd.ts': '',
    });
    expect([...loadedWith(graph, 'a.ts')]).toEqual(['a.ts', 'b.ts', 'pino']);
  });
});
