/** Whether every type that a package's declarations mention can be imported from its entry. Reads what tsc emits. */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

interface Place {
  readonly path: string;
  readonly name: string;
}

interface Declarations {
  /** Name in the file → text of the declaration. */
  readonly own: ReadonlyMap<string, string>;
  /** Name in the file → where it comes from, and its name there. */
  readonly imported: ReadonlyMap<string, Place>;
  /** Name outside → as above; names of the file itself are those of {@link own}. */
  readonly exported: ReadonlyMap<string, Place>;
  /** Files of which everything is exported. */
  readonly stars: readonly string[];
}

const FROM = /^(import|export)(?: type)? \{([^}]*)\} from '(\.[^']+)';$/gm;
const STAR = /^export \* from '(\.[^']+)';$/gm;
const LOCAL = /^export \{([^}]*)\};$/gm;
const BEGIN = /^(?:export )?(?:declare )?(?:abstract )?(interface|type|class|function|const) ([A-Za-z_$][\w$]*)/gm;
/** What only its own file can name is spelled out by the compiler. */
const NAMED_TYPE = /^export (?:declare )?(?:abstract )?(?:interface|type|class) /;

const read = new Map<string, Declarations>();

function declarationsOf(path: string): Declarations {
  const known = read.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  const resolve = (target: string): string => join(dirname(path), target.replace(/\.(?:ts|js)$/, '.d.ts'));
  const [imported, exported] = [new Map(), new Map()];
  for (const [, kind, list, target] of text.matchAll(FROM)) {
    for (const { name, as } of namesIn(list!)) {
      (kind === 'import' ? imported : exported).set(kind === 'import' ? as : as, { path: resolve(target!), name });
    }
  }
  for (const [, list] of text.matchAll(LOCAL)) {
    for (const { name, as } of namesIn(list!)) exported.set(as, { path, name });
  }
  const own = new Map<string, string>();
  const begins = [...text.matchAll(BEGIN)];
  for (const [i, found] of begins.entries()) {
    const body = text
      .slice(found.index, begins[i + 1]?.index)
      .replace(FROM, '')
      .replace(STAR, '')
      .replace(LOCAL, '');
    own.set(found[2]!, (own.get(found[2]!) ?? '') + body);
    if (found[0].startsWith('export ')) exported.set(found[2]!, { path, name: found[2]! });
  }
  const stars = [...text.matchAll(STAR)].map(([, target]) => resolve(target!));
  const declarations = { own, imported, exported, stars };
  read.set(path, declarations);
  return declarations;
}

const namesIn = (list: string): Array<{ name: string; as: string }> =>
  list
    .split(',')
    .map((item) => item.trim().replace(/^type /, ''))
    .filter((item) => item !== '')
    .map((item) => {
      const [name, as = name] = item.split(' as ');
      return { name: name!, as: as! };
    });

/** Where a declaration stands, following re-exports and imports. */
function find(path: string, name: string): Place | null {
  const { own, imported, exported, stars } = declarationsOf(path);
  if (own.has(name)) return { path, name };
  const next = exported.get(name) ?? imported.get(name);
  if (next !== undefined) return next.path === path && next.name === name ? null : find(next.path, next.name);
  for (const star of stars) {
    const found = find(star, name);
    if (found !== null) return found;
  }
  return null;
}

function exportsOf(path: string): string[] {
  const { exported, stars } = declarationsOf(path);
  return [...exported.keys(), ...stars.flatMap(exportsOf)];
}

/** `file: Type` of every type that declarations reached from `entry` mention and that `entry` does not export. */
export function typesWithoutName(entry: string): string[] {
  const keyOf = ({ path, name }: Place) => `${path}\0${name}`;
  const todo = exportsOf(entry).flatMap((name) => find(entry, name) ?? []);
  const named = new Set(todo.map(keyOf));
  const seen = new Map(todo.map((place) => [keyOf(place), place]));
  // Grows while it is walked.
  for (const { path, name } of seen.values()) {
    for (const mentioned of mentionedIn(path, declarationsOf(path).own.get(name)!)) {
      if (!seen.has(keyOf(mentioned))) seen.set(keyOf(mentioned), mentioned);
    }
  }
  const isNeeded = ({ path, name }: Place) => NAMED_TYPE.test(declarationsOf(path).own.get(name)!);
  const missing = [...seen].filter(([key, place]) => !named.has(key) && isNeeded(place));
  return missing.map(([, { path, name }]) => `${basename(path)}: ${name}`).sort();
}

function mentionedIn(path: string, text: string): Array<Place> {
  const { own, imported } = declarationsOf(path);
  const far = [...text.matchAll(/import\('(\.[^']+)'\)\.([\w$]+)/g)].flatMap(([, target, name]) => {
    return find(join(dirname(path), target!.replace(/\.(?:ts|js)$/, '.d.ts')), name!) ?? [];
  });
  // What a function is called is no type, but what it mentions is: its declaration is walked as its caller's.
  const walked = far.flatMap((place) => mentionedIn(place.path, declarationsOf(place.path).own.get(place.name)!));
  const words = [...new Set(text.replace(/'[^']*'|"[^"]*"/g, '').match(/(?<![\w$.])[A-Z][\w$]*(?!\??:)/g) ?? [])];
  const near = words.flatMap((word) => (own.has(word) || imported.has(word) ? (find(path, word) ?? []) : []));
  return [...near, ...walked];
}
