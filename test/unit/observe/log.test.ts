/** What a program writes to standard error when it logs: the built logger in a process of its own. */
import { describe, expect, it } from 'vitest';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('dist');
const LOG = new URL('../../../dist/observe/log.js', import.meta.url);

async function logged(options: object, statements: string): Promise<Record<string, unknown>[]> {
  const program = `
    import { openLog } from ${JSON.stringify(LOG.href)};
    const log = openLog(${JSON.stringify(options)});
    ${statements}`;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
  expect(stdout).toBe('');
  const lines = stderr.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe.skipIf(skip.reason)('the log', () => {
  it('is one document per line, with level, time and name', async () => {
    const [line, ...more] = await logged({ name: 'daemon' }, "log.info({ root: '/r' }, 'ready');");
    expect(line).toEqual({ level: 'info', time: expect.any(String), name: 'daemon', root: '/r', msg: 'ready' });
    expect(new Date(String(line!.time)).toISOString()).toBe(line!.time);
    expect(more).toEqual([]);
  });

  it.each([
    ['debug', ['debug', 'info', 'warn', 'error']],
    ['info', ['info', 'warn', 'error']],
    ['warn', ['warn', 'error']],
    ['error', ['error']],
    ['silent', []],
  ])('of level %s has %j', async (level, expected) => {
    const lines = await logged({ level }, "for (const name of Object.keys(log)) log[name]({}, 'x');");
    expect(lines.map((line) => line.level)).toEqual(expected);
  });

  it('keeps of an error its code, what caused it and where it comes from', async () => {
    const [line] = await logged(
      {},
      `const { errorRow } = await import(${JSON.stringify(LOG.href)});
       const inner = new Error('disk on fire');
       const error = new Error('no write', { cause: new Error('no store', { cause: inner }) });
       log.warn({ error: errorRow(error) }, 'x');`,
    );
    expect(line!.error).toMatchObject({ code: 'INTERNAL', message: 'no write', causes: ['no store', 'disk on fire'] });
    expect((line!.error as { stack: string }).stack).toMatch(/^Error: no write\n\s+at /);
  });

  it('never shows a secret, at the top and one level down', async () => {
    const lines = await logged({}, "log.warn({ password: 's1', registry: { token: 's2', host: 'h' } }, 'x');");
    expect(JSON.stringify(lines)).not.toMatch(/s1|s2/);
    expect(lines[0]).toMatchObject({ registry: { host: 'h' } });
  });

  it('is written in full before a process that exits is gone', async () => {
    const lines = await logged({}, "for (let i = 0; i < 200; i++) log.info({ i }, 'x'); process.exit();");
    expect(lines).toHaveLength(200);
  });

  it('as text is a line for people: time, level, message, fields', async () => {
    const program = `
      import { openLog } from ${JSON.stringify(LOG.href)};
      const log = openLog({ format: 'text', name: 'daemon', level: 'debug' });
      log.warn({ attempt: 2, error: 'a b', password: 's1', raw: '\\u001b[2J' }, 'trying again');
      log.debug({}, 'x');`;
    const { stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
    const [first, second, ...more] = stderr.split('\n');
    expect(more).toEqual(['']);
    expect(first!.slice(0, 24)).toBe(new Date(first!.slice(0, 24)).toISOString());
    expect(first!.slice(24)).toBe(
      ' WARN  daemon: trying again attempt=2 error="a b" password=[Redacted] raw="\\u001b[2J"',
    );
    expect(second!.slice(24)).toBe(' DEBUG daemon: x');
  });

  it('has colours where they are asked for, and none at a pipe', async () => {
    const program = `
      import { openLog } from ${JSON.stringify(LOG.href)};
      openLog({ format: 'text' }).error({}, 'x');`;
    const colours = async (env: NodeJS.ProcessEnv) =>
      (await run(process.execPath, ['--input-type=module', '-e', program], { env })).stderr.includes('\u001b[31m');
    expect(await colours({ FORCE_COLOR: '1' })).toBe(true);
    expect(await colours({ FORCE_COLOR: undefined })).toBe(false);
  });

  it('loads pino with the first line that is written, not before', async () => {
    const loaded = 'console.error(JSON.stringify({ pino: Object.keys(require.cache).some((k) => /pino/.test(k)) }));';
    const statements = `
      import { createRequire } from 'node:module';
      const require = createRequire(${JSON.stringify(LOG.href)});
      log.debug({}, 'x'); ${loaded} log.info({}, 'x'); ${loaded}`;
    expect(await logged({}, statements)).toMatchObject([{ pino: false }, { level: 'info' }, { pino: true }]);
  });
});
