/** Compares two tags of one repository: what was added, removed and changed. usage: diff-tags REPOSITORY OLD NEW */
import { diff, diffConfig } from 'lacuna/reader';

const [repository, before, after] = process.argv.slice(2);
if (repository === undefined || before === undefined || after === undefined) {
  throw new Error('usage: diff-tags REPOSITORY OLD NEW');
}
const [a, b] = [`${repository}:${before}`, `${repository}:${after}`];

const counts = { added: 0, removed: 0, changed: 0 };
// Times differ in every build of an image, which says nothing about its content.
for await (const { kind, path, path_b64, changes } of diff(a, b, { ignore: ['mtime'] })) {
  counts[kind]++;
  const fields = changes.map(({ field }) => field).join(', ');
  console.log(`${kind.padEnd(7)}  ${path ?? `base64:${path_b64}`}${fields === '' ? '' : `  (${fields})`}`);
}
for (const { path, from, to } of await diffConfig(a, b)) {
  console.log(`config   ${path.join('.')}: ${JSON.stringify(from)} → ${JSON.stringify(to)}`);
}
console.log(`${counts.added} added, ${counts.removed} removed, ${counts.changed} changed`);
