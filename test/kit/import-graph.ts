/** Which file imports what, read from the sources. Relies on the formatter: statements begin a line, quotes are single. */
import { posix } from 'node:path';

/** `type`: gone at run time. `lazy`: `import()`. */
type ImportKind = 'static' | 'type' | 'lazy';

export interface Import {
  readonly kind: ImportKind;
  /** A path like those of the files, or a package as it is named (`pino`, `node:fs`); null: not a literal. */
  readonly target: string | null;
}

/** File → its imports, in order. */
export type ImportGraph = ReadonlyMap<string, readonly Import[]>;

const STATEMENT = /^(?:import|export)\s+(type\s)?(?:[^'";]*?\bfrom\s+)?'([^']+)'/gm;
const CALL = /(typeof\s+)?\bimport\(\s*(?:'([^']+)')?/g;

/** The source without comments that begin a line. */
export const withoutComments = (source: string): string =>
  source.replace(/^[ \t]*\/\*[\s\S]*?\*\//gm, '').replace(/^[ \t]*\/\/.*$/gm, '');

export function importsOf(path: string, source: string): Import[] {
  const resolve = (target: string): string =>
    target.startsWith('.') ? posix.join(posix.dirname(path), target) : target;
  const code = withoutComments(source);
  const statements = [...code.matchAll(STATEMENT)].map(([, type, target]): Import => {
    return { kind: type === undefined ? 'static' : 'type', target: resolve(target!) };
  });
  const calls = [...code.matchAll(CALL)].map(([, type, target]): Import => {
    return { kind: type === undefined ? 'lazy' : 'type', target: target === undefined ? null : resolve(target) };
  });
  return [...statements, ...calls];
}

/** Paths are relative to one folder, with `/`. */
export const importGraph = (sources: ReadonlyMap<string, string>): ImportGraph =>
  new Map([...sources].map(([path, source]) => [path, importsOf(path, source)]));

/** Everything that is loaded with `path`: files and packages. What is only imported lazily is not. */
export function loadedWith(graph: ImportGraph, path: string): ReadonlySet<string> {
  const loaded = new Set([path]);
  // Grows while it is walked.
  for (const file of loaded) {
    for (const { kind, target } of graph.get(file) ?? []) if (kind === 'static' && target !== null) loaded.add(target);
  }
  return loaded;
}

/** One cycle of imports of any kind for each knot of them, as the files on it, the first one repeated at the end. */
export function cyclesOf(graph: ImportGraph): string[][] {
  const done = new Set<string>();
  const way: string[] = [];
  const cycles: string[][] = [];
  const visit = (file: string): void => {
    if (way.includes(file)) cycles.push([...way.slice(way.indexOf(file)), file]);
    if (done.has(file)) return;
    done.add(file);
    way.push(file);
    for (const { target } of graph.get(file) ?? []) if (target !== null && graph.has(target)) visit(target);
    way.pop();
  };
  for (const file of graph.keys()) visit(file);
  return cycles;
}
