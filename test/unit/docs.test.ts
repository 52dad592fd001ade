/**
 * What the documents say is true: their tables, commands and links are compared with the code, the library's example is
 * compiled and run. `npx vitest run -u test/unit/docs.test.ts` writes docs/config.md, docs/cli.md and docs/man anew.
 */
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
import type { Command } from 'commander';
import { parse } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { loadAll } from '../../src/cli/commands.ts';
import { commandOf } from '../../src/cli/frame.ts';
import { commandPage, programPage } from '../../src/cli/man.ts';
import { programOf } from '../../src/cli/program.ts';
import { sampleConfig } from '../../src/config/load.ts';
import { CODES, EXIT } from '../../src/errors.ts';
import { lacuna } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { structuresPage } from '../kit/structures.ts';
import { readRows } from '../kit/tree.ts';

const read = (name: string): string => readFileSync(join(checkout, name), 'utf8');
/** The README and what it leads on to: together they describe the whole. */
const guides = ['README.md', 'docs/setup.md', 'docs/usage.md', 'docs/convert.md', 'docs/containerd.md'];
const readme = guides.map(read).join('\n');
const documents = [
  ...['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'],
  ...readdirSync(join(checkout, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
];
const manifest = JSON.parse(read('package.json')) as {
  engines: { node: string };
  files: string[];
  version: string;
  directories: { man: string };
  scripts: Record<string, string>;
};

/** Contents of the fenced blocks of a language; they may be indented. */
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([^]*?)^ *\`\`\`$`, 'gm'))].map(([, indent, text]) =>
    text!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );

/** Rows of the table whose header begins with `first`, as cells. */
function table(first: string): string[][] {
  const rows = readme
    .slice(readme.indexOf(`\n| ${first} |`))
    .trimStart()
    .split('\n');
  const end = rows.findIndex((row) => !row.startsWith('|'));
  return rows.slice(2, end).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const code = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);

/** Every command, with its options. */
const commandsByName = async (): Promise<Map<string, Command>> =>
  new Map((await loadAll()).map((spec) => [spec.name, commandOf(spec)]));

/** The words of a command line of a shell, without its comment, its pipe and its redirections. */
const wordsOf = (line: string): string[] => line.replace(/\s+[#|<>].*/, '').split(' ');

describe('README', () => {
  it('is short enough to be read', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(201);
  });

  it('has every command, and no other', async () => {
    const described = table('command').map(([cell]) => code(cell!)[0]!.split(' ')[0]!);
    expect(described.toSorted()).toEqual([...(await commandsByName()).keys()].toSorted());
  });

  it('names the arguments of every command', async () => {
    const known = await commandsByName();
    for (const [cell] of table('command')) {
      const [name, ...given] = code(cell!)[0]!.split(' ');
      const wanted = known.get(name!)!.registeredArguments;
      const shape = wanted.map(({ required, variadic }) => `${required ? 'needed' : 'optional'}${variadic ? '…' : ''}`);
      const shown = given.map(
        (text) => `${text.startsWith('[') ? 'optional' : 'needed'}${text.endsWith('…') ? '…' : ''}`,
      );
      expect(shown, name).toEqual(shape);
    }
  });

  it('shows commands that exist, with options that they have', async () => {
    const known = await commandsByName();
    const commands = blocks('sh').flatMap((block) =>
      block.split('\n').filter((line) => line.startsWith('npx lacuna ')),
    );
    expect(commands.length).toBeGreaterThan(8);
    for (const line of commands) {
      const [, , name, ...words] = wordsOf(line);
      const command = known.get(name!);
      expect(command, line).toBeDefined();
      const options = command!.options.map(({ long }) => long);
      for (const word of words.filter((text) => text.startsWith('-'))) expect(options, line).toContain(word);
    }
  });

  it('and every command shows examples that it would accept', async () => {
    const known = await commandsByName();
    for (const { name, examples } of await loadAll()) {
      const lines = examples.map((line) => /(?:^|[|(] ?)(lacuna [^)]*)/.exec(line)![1]!);
      expect(lines.length, name).toBeGreaterThan(0);
      for (const line of lines) {
        const [, given, ...words] = wordsOf(line);
        expect(given, line).toBe(name);
        const command = known.get(name)!;
        const options = command.options.flatMap(({ long, short }) => [long, short]);
        for (const word of words.filter((text) => /^--?[a-z]/.test(text))) expect(options, line).toContain(word);
        const needed = command.registeredArguments.filter(({ required }) => required).length;
        expect(words.filter((text) => !text.startsWith('--')).length, line).toBeGreaterThanOrEqual(needed);
      }
    }
  });

  it('names scripts that package.json has', () => {
    const named = [...readme.matchAll(/\bnpm (?:run ([\w:]+)|(test)\b)/g)].map(([, script, test]) => script ?? test!);
    for (const name of named) expect(Object.keys(manifest.scripts)).toContain(name);
    expect(named).toEqual(expect.arrayContaining(['demo', 'test', 'setup', 'check']));
  });

  it('asks for the versions that the code asks for, and names every package that setup installs', () => {
    const rust = /^rust-version = "([\d.]+)"/m.exec(read('native/Cargo.toml'))![1]!;
    expect(readme).toContain(`Node ${manifest.engines.node.replace('>=', '')} or newer`);
    expect(readme).toContain(`Rust ${rust} or newer`);
    const setup = read('scripts/setup.mjs');
    const lists = setup.slice(setup.indexOf('const BUILD'), setup.indexOf('const NEEDED'));
    const packages = [...lists.matchAll(/: '([^']+)'/g)].map(([, name]) => name!);
    expect(packages.length).toBeGreaterThan(10);
    for (const name of packages) expect(readme).toContain(name);
  });

  it('has the exit codes and the error codes that lead to them', () => {
    const shown = table('exit code').map(([exit, name, codes]) => [Number(exit), code(name!)[0], code(codes!)]);
    const wanted = Object.entries(EXIT).map(([name, exit]) => {
      const codes = Object.entries(CODES).filter(([, row]) => row.exit === exit);
      return [exit, name, codes.map(([text]) => text)];
    });
    expect(shown).toEqual(wanted);
  });

  it('has configuration that is TOML', () => {
    const parsed = blocks('toml').map((block) => parse(block));
    expect(parsed.length).toBeGreaterThan(1);
    for (const document of parsed) expect(document).toHaveProperty('proxy_plugins.lacuna.type', 'snapshot');
  });
});

/** What docs/man has to have: file name → page. */
async function manPages(): Promise<Map<string, string>> {
  const loaded = await loadAll();
  const program = programOf();
  const pages = loaded.map((spec): [string, string] => {
    const command = commandOf(spec);
    program.addCommand(command);
    return [`lacuna-${spec.name}.1`, commandPage(spec, command, manifest.version)];
  });
  return new Map([['lacuna.1', programPage(program, loaded, manifest.version)], ...pages]);
}

describe('the man pages', () => {
  const folder = join(checkout, 'docs', 'man');

  it('are what the commands say of themselves', async () => {
    const pages = await manPages();
    for (const [name, text] of pages) await expect(text).toMatchFileSnapshot(join(folder, name));
    expect(readdirSync(folder).toSorted()).toEqual([...pages.keys()].toSorted());
    expect(manifest.directories.man).toBe('docs/man');
  });

  it.skipIf(needs('groff').reason)('are without fault to groff', async () => {
    const files = readdirSync(folder).map((name) => join(folder, name));
    const { stdout, stderr } = await run('groff', ['-man', '-ww', '-Tutf8', '-P-cbou', ...files]);
    expect(stderr).toBe('');
    for (const text of [' --log-level ', 'LACUNA-FIND(1)', "--name '*.so'"]) expect(stdout).toContain(text);
  });
});

describe('the documents', () => {
  it('are all in their index', () => {
    const index = read('docs/README.md');
    const others = documents.filter((name) => name.startsWith('docs/') && name !== 'docs/README.md');
    for (const name of others) expect(index).toContain(`](${name.slice('docs/'.length)})`);
  });

  it('have links that lead somewhere', () => {
    for (const name of documents) {
      for (const [, target] of read(name).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
        expect(existsSync(join(checkout, dirname(name), target!)), `${name} → ${target}`).toBe(true);
        // Who has the package has what its documents lead to.
        const [top] = join(dirname(name), target!).split('/');
        expect(manifest.files, `${name} → ${target}`).toContain(top);
      }
    }
  });

  it('name tests that exist where the threat model makes a claim', () => {
    const rows = read('docs/threat-model.md')
      .split('\n')
      .filter((line) => line.startsWith('| '));
    const named = rows.flatMap((row) =>
      [...row.matchAll(/`((?:test|native)\/[^`]+)`((?:, "[^"]+")+)/g)].flatMap(([, file, titles]) =>
        [...titles!.matchAll(/"([^"]+)"/g)].map(([, title]) => [file!, title!]),
      ),
    );
    expect(named.length).toBeGreaterThan(15);
    const missing = named.filter(
      ([file, title]) => !(existsSync(join(checkout, file!)) && read(file!).includes(title!)),
    );
    expect(missing).toEqual([]);
  });

  it('are in the package', () => {
    for (const name of ['docs', 'examples', ...documents.filter((file) => !file.includes('/')), 'LICENSE']) {
      expect(manifest.files).toContain(name);
      expect(existsSync(join(checkout, name))).toBe(true);
    }
  });

  it('have the on-disk structures as the code has them', async () => {
    await expect(structuresPage()).toMatchFileSnapshot(join(checkout, 'docs', 'structures.md'));
  });

  it('have the configuration as the code has it', async () => {
    const text = [
      '# Configuration',
      '',
      '`lacuna snapshotter`, `lacuna daemon` and `lacuna mount` take `--config FILE`. The file is TOML; its first line is',
      '`version = 1`. Sizes and durations are strings with a unit: `B`, `K` or `KiB` (1024 bytes), `KB` (1000), likewise `M`,',
      '`G`, `T`; and `ms`, `s`, `m`, `h`. An unknown key is an error, with a suggestion, and so are impossible values and a',
      'certificate file without certificates. A snapshotter and a mount pass the file to the daemon that they start; one that',
      'runs keeps its own. `--log-level` and `LACUNA_LOG_LEVEL` take precedence over `[log] level`.',
      '',
      'All keys with their defaults:',
      '',
      '```toml',
      `${sampleConfig()}\`\`\``,
      '',
    ];
    await expect(text.join('\n')).toMatchFileSnapshot(join(checkout, 'docs', 'config.md'));
  });
});

const built = needs('dist');

describe.skipIf(built.reason)('the command line', () => {
  it('is described in docs/cli.md as it describes itself', { timeout: 120_000 }, async () => {
    const names = [...(await commandsByName()).keys()].sort();
    const help = async (name: string): Promise<string> =>
      (await lacuna([name, '--help'], { env: { COLUMNS: '80' } })).stdout.trimEnd();
    const sections: string[] = [];
    for (const name of names) sections.push(`## ${name}\n\n\`\`\`text\n${await help(name)}\n\`\`\`\n`);
    const text = ['# Command line\n', 'What `lacuna COMMAND --help` prints.\n', ...sections].join('\n');
    await expect(text).toMatchFileSnapshot(join(checkout, 'docs', 'cli.md'));
  });

  it('offers the commands of src/cli', async () => {
    const { stdout } = await lacuna(['--help'], { env: { COLUMNS: '80' } });
    const offered = [...stdout.matchAll(/^ {2}([a-z]+) (?:\[options\] )?/gm)].map(([, name]) => name!);
    expect(offered.filter((name) => name !== 'help').toSorted()).toEqual(
      [...(await commandsByName()).keys()].toSorted(),
    );
  });
});

const whole = needs('dist', 'addon');

describe.skipIf(whole.reason)("README's library example", () => {
  /** A user's project: the package is found in node_modules, as is Node's API. */
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-docs-'));
  const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = {
    ...{ target: 'es2023', lib: ['es2023', 'esnext.disposable'], module: 'nodenext', types: ['node'] },
    ...{ strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true, verbatimModuleSyntax: true },
  };

  beforeAll(() => {
    mkdirSync(join(dir, 'node_modules', '@types'), { recursive: true });
    symlinkSync(checkout, join(dir, 'node_modules', 'lacuna'));
    symlinkSync(join(checkout, 'node_modules', '@types', 'node'), join(dir, 'node_modules', '@types', 'node'));
    writeFileSync(join(dir, 'package.json'), '{"private":true,"type":"module"}');
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['*.ts'] }));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const compile = (text: string) => {
    writeFileSync(join(dir, 'example.ts'), text);
    return run(process.execPath, [compiler, '-p', dir]);
  };

  it('compiles against the types of the package, which are no any', async () => {
    const [example, ...others] = blocks('ts');
    expect(others).toEqual([]);
    const wrong = example!.replace('images[0]?.blobs.length', 'images[0]?.blobs.nonsense');
    await expect(compile(wrong)).rejects.toThrow(/nonsense/);
    await compile(example!);
  });

  it('runs and lists the whole tree', { timeout: 60_000 }, async () => {
    const image = `oci:${fixture('oci', 'tame-mini')}:tame-mini-gzip`;
    const { stdout } = await run(process.execPath, [join(dir, 'example.js'), image], { env: { TMPDIR: dir } });
    const [first, ...rows] = stdout.trimEnd().split('\n');
    expect(first).toMatch(/^oci:.*:lazy sha256:[0-9a-f]{64} 3 blobs$/);
    const named = readRows(fixture('truth', 'tame-mini.merged.jsonl')).flatMap(({ mode, size, path }) =>
      path === undefined ? [] : [`${mode} ${size ?? '-'} ${path}`],
    );
    expect(rows.filter((row) => !row.endsWith(' undefined'))).toEqual(named);
  });
});
