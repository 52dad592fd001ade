/**
 * Bundles the programs, `dist/cli/main.js`, `dist/daemon/main.js` and the daemon's thread for bootstraps, with the packages
 * they use. A pull, and reads
 * after a crash of the daemon, wait for them to load: a few large files take half the time of hundreds of small ones.
 * What is only loaded on demand stays in chunks of its own. The library in `dist/` is what tsc made and shares nothing
 * with them. Not minified, so that a stack trace can be read; `node --enable-source-maps` shows the sources.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { rolldown } from 'rolldown';
import { checkout } from './cache.mjs';

const PROGRAMS = ['cli/main', 'daemon/main', 'daemon/table-worker'];

/** One folder below `dist/` like all others: code finds `dist/native` and `proto` from where it lies. */
const CHUNKS = 'chunks';

/** Folders of this script's own: what an earlier build left in them is removed. */
const OWN = ['cli', CHUNKS];

const dist = join(checkout, 'dist');
const { optionalDependencies } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));

/** May be absent, or compiled; and what grpc-js needs for its introspection only, which nobody asks for. */
const EXTERNAL = [...Object.keys(optionalDependencies), '@grpc/proto-loader'];

/** pino is bundled as well, and still loaded no sooner than by the first line that is logged. */
const LAZY = "createRequire(import.meta.url)('pino')";
const lazily = {
  name: 'lazily',
  // Within one line, so that the source map stays right.
  transform: (code) => (code.includes(LAZY) ? { code: code.replace(LAZY, "require('pino')"), map: null } : null),
};

async function bundle(program) {
  const build = await rolldown({
    cwd: checkout,
    input: { [program]: `src/${program}.ts` },
    platform: 'node',
    tsconfig: 'tsconfig.json',
    transform: { target: 'node20.19' },
    plugins: [lazily],
    external: EXTERNAL.map((name) => new RegExp(`^${name}(/|$)`)),
    resolve: { alias: { undici$: join(checkout, 'scripts', 'undici-agent.mjs') } },
    onLog(level, log) {
      if (level === 'warn') throw new Error(`${program}: ${log.message}`);
    },
  });
  const { output } = await build.generate({
    format: 'esm',
    sourcemap: true,
    entryFileNames: '[name].js',
    chunkFileNames: `${CHUNKS}/[name]-[hash].js`,
  });
  return output;
}

/** Under a temporary name first: a process that starts meanwhile never loads half a file. */
function write(fileName, content) {
  const path = join(dist, fileName);
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/** Name, licence and its text of every package that is in a chunk: most licences ask for that. */
function notices(moduleIds) {
  const packages = new Set(moduleIds.map((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0]));
  packages.delete(undefined);
  const pieces = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? '' : `\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
    return `${name} ${version} (${license})\n${text}`;
  });
  return `The programs of Lacuna contain these packages.\n\n${[...new Set(pieces)].join(`\n${'-'.repeat(80)}\n\n`)}`;
}

const files = (await Promise.all(PROGRAMS.map(bundle))).flat();
// An entry only once there is all that it loads.
const isEntry = ({ fileName }) => PROGRAMS.includes(fileName.replace(/\.js$/, ''));
for (const file of [...files.filter((file) => !isEntry(file)), ...files.filter(isEntry)]) {
  write(file.fileName, file.type === 'chunk' ? file.code : file.source);
}
write(`${CHUNKS}/LICENSES.txt`, notices(files.flatMap((file) => file.moduleIds ?? [])));

const wanted = new Set([...files.map((file) => file.fileName), `${CHUNKS}/LICENSES.txt`]);
for (const folder of OWN) {
  if (!existsSync(join(dist, folder))) continue;
  for (const name of readdirSync(join(dist, folder))) {
    if (!wanted.has(`${folder}/${name}`)) rmSync(join(dist, folder, name), { recursive: true });
  }
}
