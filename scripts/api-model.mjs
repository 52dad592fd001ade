/**
 * Public symbols of the library with their documentation comments, read from the declarations that tsc emits. Tools that
 * use the compiler's JavaScript API do not work with TypeScript 7, which has none.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseSync } from 'rolldown/utils';

const files = new Map();

const targetOf = (path, source) => join(dirname(path), source.replace(/\.(?:ts|js)$/, '.d.ts'));

/** The text of a `/** … *\/` comment without its asterisks. */
const textOf = (comment) =>
  comment
    .slice(1)
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join('\n')
    .trim();

/** The documentation comment that ends right before `start`, or null. */
function docAt({ text, comments }, start) {
  const before = comments.findLast(({ end }) => end <= start);
  const isDoc = before?.type === 'Block' && before.value.startsWith('*');
  return isDoc && text.slice(before.end, start).trim() === '' ? textOf(before.value) : null;
}

/** A file's declarations, and where its other names come from. */
function fileAt(path) {
  const known = files.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(path, 'utf8');
  const { program, comments } = parseSync(path, text);
  const file = { path, text, comments, own: new Map(), from: new Map(), exported: new Map(), stars: [] };
  files.set(path, file);
  for (const statement of program.body) readStatement(file, statement);
  return file;
}

function readStatement(file, statement) {
  const source = statement.source == null ? null : targetOf(file.path, statement.source.value);
  if (statement.type === 'ImportDeclaration') {
    for (const { local, imported } of statement.specifiers)
      file.from.set(local.name, { path: source, name: imported?.name });
  } else if (statement.type === 'ExportAllDeclaration') file.stars.push(source);
  else if (statement.type !== 'ExportNamedDeclaration') declare(file, statement, statement);
  else if (statement.declaration === null) {
    for (const { local, exported } of statement.specifiers) {
      file.exported.set(exported.name, { path: source ?? file.path, name: local.name });
    }
  } else {
    for (const name of declare(file, statement.declaration, statement)) {
      file.exported.set(name, { path: file.path, name });
    }
  }
}

/** Records what a statement declares; overloads of one function are one symbol. Gives the names. */
function declare(file, node, statement) {
  const names = node.declarations?.map(({ id }) => id.name) ?? (node.id == null ? [] : [node.id.name]);
  for (const name of names) {
    const others = file.own.get(name);
    const doc = others?.doc ?? docAt(file, statement.start);
    file.own.set(name, { file, name, doc, nodes: [...(others?.nodes ?? []), node] });
  }
  return names;
}

/** The declaration of a name, whatever it is re-exported through; null for one of a package. */
function find(path, name) {
  if (!path.endsWith('.d.ts')) return null;
  const { own, from, exported, stars } = fileAt(path);
  if (own.has(name)) return own.get(name);
  const target = exported.get(name);
  // `export { name }` of what the file imports leads to itself first.
  const next = target?.path === path && !own.has(target.name) ? from.get(target.name) : (target ?? from.get(name));
  if (next !== undefined) return find(next.path, next.name);
  for (const star of stars) {
    const found = find(star, name);
    if (found !== null) return found;
  }
  return null;
}

/** Names that a file exports → their declarations, those of `export *` included. */
function exportsOf(path) {
  const { exported, stars } = fileAt(path);
  const own = [...exported].map(([name, target]) => [name, find(target.path, target.name)]);
  return new Map([...stars.flatMap((star) => [...exportsOf(star)]), ...own]);
}

/** The function behind `typeof import('./file.ts').name`, as whose copy a constant is exported. */
function originalOf({ file, nodes }) {
  const type = nodes[0].declarations?.[0].id.typeAnnotation?.typeAnnotation;
  const query = type?.type === 'TSTypeQuery' ? type.exprName : null;
  if (query?.type !== 'TSImportType') return null;
  return find(targetOf(file.path, query.source.value), query.qualifier.name);
}

/** Members that a declaration lists by name; those of types within a member belong to its own documentation. */
function membersOf(node) {
  const body = node.typeAnnotation?.members ?? node.body?.body ?? [];
  return body.filter(
    ({ key, accessibility }) =>
      key !== undefined &&
      key.type !== 'PrivateIdentifier' &&
      accessibility !== 'private' &&
      accessibility !== 'protected',
  );
}

const nameIn = (text, { key, computed }) =>
  computed ? `[${text.slice(key.start, key.end)}]` : (key.name ?? key.value);

const KINDS = {
  TSInterfaceDeclaration: 'interface',
  TSTypeAliasDeclaration: 'type',
  ClassDeclaration: 'class',
  TSDeclareFunction: 'function',
};

function describe(name, symbol) {
  const { file, nodes, doc, name: ownName } = originalOf(symbol) ?? symbol;
  const cut = ({ start, end }) => file.text.slice(start, end);
  const members = nodes.flatMap(membersOf);
  return {
    name,
    kind: KINDS[nodes[0].type] ?? 'constant',
    doc: symbol.doc ?? doc,
    text: nodes.map((node) => cut(node).replace(ownName, name)).join('\n'),
    members: members.map((node) => ({ name: nameIn(file.text, node), doc: docAt(file, node.start), text: cut(node) })),
  };
}

/** Every symbol that the declarations `entry` export, sorted by name. */
export function apiOf(entry) {
  return [...exportsOf(entry)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, symbol]) => describe(name, symbol));
}

/** `Symbol` or `Symbol.member` of everything without a documentation comment. */
export function undocumented(api) {
  return api.flatMap(({ name, doc, members }) => [
    ...(doc === null ? [name] : []),
    ...members.filter((member) => member.doc === null).map((member) => `${name}.${member.name}`),
  ]);
}
