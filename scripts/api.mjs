/**
 * Writes the API reference, `.cache/api/{lacuna,reader}.md`, from the declarations in `dist/`. It is not checked in: it
 * says what the documentation comments say, and changes with each of them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiOf, undocumented } from './api-model.mjs';
import { checkout } from './cache.mjs';

const ENTRIES = { lacuna: 'index', reader: 'reader-entry' };
const TITLES = { lacuna: '`lacuna`', reader: '`lacuna/reader`' };
const GROUPS = { Functions: ['function'], Constants: ['constant'], Classes: ['class'], Types: ['interface', 'type'] };

/** Links to other symbols become links within the page. */
const linked = (text, names) =>
  text.replaceAll(/\{@link ([\w$.]+)\}/g, (_, name) =>
    names.has(name) ? `[\`${name}\`](#${name.toLowerCase()})` : `\`${name}\``,
  );

/** The declaration has the members with their documentation in it. */
const section = ({ name, doc, text }, names) =>
  [`### ${name}`, '', linked(doc ?? '', names), '', '```ts', text, '```', ''].join('\n');

function page(title, api) {
  const names = new Set(api.map(({ name }) => name));
  const groups = Object.entries(GROUPS).flatMap(([heading, kinds]) => {
    const symbols = api.filter(({ kind }) => kinds.includes(kind));
    return symbols.length === 0 ? [] : [`## ${heading}\n`, ...symbols.map((symbol) => section(symbol, names))];
  });
  return [`# ${title}\n`, ...groups].join('\n');
}

const folder = join(checkout, '.cache', 'api');
mkdirSync(folder, { recursive: true });
for (const [name, entry] of Object.entries(ENTRIES)) {
  const api = apiOf(join(checkout, 'dist', `${entry}.d.ts`));
  for (const symbol of undocumented(api)) console.error(`${symbol} has no documentation comment`);
  writeFileSync(join(folder, `${name}.md`), page(TITLES[name], api));
  console.log(join(folder, `${name}.md`));
}
