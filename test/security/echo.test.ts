/** A registry that sends back what it was sent: no password or token of it reaches an error, a log or the terminal. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Credentials } from '../../src/access/credential-source.ts';
import { isLacunaError, LacunaError } from '../../src/errors.ts';
import { openLog } from '../../src/observe/log.ts';
import { screen } from '../../src/observe/screen.ts';
import { openStore } from '../../src/registry/open.ts';
import { keepSecret, redact } from '../../src/secrets.ts';
import { lacunaArgs } from '../kit/lacuna.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { keptLog } from '../unit/registry/kit.ts';

const PASSWORD = 'tr0ub4dor & "three"';
const ENCODED = Buffer.from(`ada:${PASSWORD}`).toString('base64');
const IDENTITY = 'identity-0123456789abcdef';
const TOKEN = `eyJhbGciOiJSUzI1NiJ9.${'0a1B2c3D'.repeat(90)}.sig-nature_1`;
const SECRETS = [PASSWORD, JSON.stringify(PASSWORD).slice(1, -1), ENCODED, IDENTITY, TOKEN, TOKEN.slice(0, 40)];

const expectNone = (text: string): void => {
  for (const secret of SECRETS) expect(text).not.toContain(secret);
};

describe('a secret', () => {
  it('is taken out of every text, in the forms that it is sent and quoted in', () => {
    keepSecret(PASSWORD);
    const forms = [PASSWORD, encodeURIComponent(PASSWORD), JSON.stringify(PASSWORD).slice(1, -1)];
    for (const form of forms) expect(redact(`before ${form} after`)).toBe('before [redacted] after');
    expect(redact(`Authorization: Bearer ${TOKEN}`)).toBe('Authorization: Bearer [redacted]');
    expect(redact('supported: Bearer, Basic; use Basic authentication')).toBe(
      'supported: Bearer, Basic; use Basic authentication',
    );
  });

  it('is taken out of an error as it is made', () => {
    keepSecret(IDENTITY);
    const error = new LacunaError('PROTOCOL', `sent ${IDENTITY}`, { subject: IDENTITY, hint: `drop ${IDENTITY}` });
    expectNone(`${error.stack} ${JSON.stringify(error)}`);
  });

  it.each(['text', 'json'] as const)('of digits leaves the numbers of a log line alone, as %s', (format) => {
    keepSecret('12345678');
    const lines: string[] = [];
    const write = vi.spyOn(screen, 'print').mockImplementation((line) => void lines.push(line));
    openLog({ format }).warn(
      { size: 12345678, about: 'sent 12345678', list: ['12345678'], 'k 12345678': 1 },
      '12345678',
    );
    write.mockRestore();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('sent [redacted]');
    expect(lines[0]!.match(/12345678/g)).toHaveLength(1);
    if (format === 'json') expect(JSON.parse(lines[0]!)).toMatchObject({ size: 12345678, msg: '[redacted]' });
  });

  it('that is a short word is left in texts, which have it by chance', () => {
    keepSecret('test');
    expect(redact('a test')).toBe('a test');
  });
});

describe('a registry that echoes', () => {
  let server: Server;
  let host: string;
  let sent: string[];
  /** Answers a request whose authorization is `header`. */
  let echo: (header: string, request: IncomingMessage, response: ServerResponse) => void;

  beforeEach(async () => {
    sent = [];
    server = createServer((request, response) => {
      const header = request.headers.authorization ?? '';
      const pieces: Buffer[] = [];
      request.on('data', (piece: Buffer) => pieces.push(piece));
      request.on('end', () => {
        sent.push(header, Buffer.concat(pieces).toString());
        echo(header, request, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => new Promise<void>((resolve) => void server.close(() => resolve())));

  const challenge = (response: ServerResponse, kind: string): void => {
    response.writeHead(401, { 'www-authenticate': kind }).end();
  };
  const errors = (...messages: string[]): string =>
    JSON.stringify({ errors: messages.map((message) => ({ code: 'DENIED', message, detail: message })) });

  /** What asking for a manifest leaves: the error with all that it has, and the log. */
  async function left(credentials: Credentials): Promise<string> {
    const log = keptLog();
    const reference = { transport: 'docker', host, repository: 'x', tag: 'v', digest: null } as const;
    const retry = { attempts: 2, minDelay: 1, maxDelay: 1, maxRetryAfter: 1 };
    await using store = await openStore(reference, { credentials: async () => credentials, log, retry });
    const error: unknown = await store.resolve(null).catch((thrown: unknown) => thrown);
    if (!isLacunaError(error)) throw error;
    return [error.message, error.subject, error.hint, error.stack, JSON.stringify(error), ...log.lines].join('\n');
  }

  const basic = { username: 'ada', password: PASSWORD };

  it.each([
    ['the header', (header: string) => errors(`you sent ${header}`)],
    ['what it decodes to', (header: string) => errors(Buffer.from(header.slice(6), 'base64').toString())],
    ['a long text with it at the end', (header: string) => errors(`${'x'.repeat(280)} ${header}`)],
    ['it as the code', (header: string) => JSON.stringify({ errors: [{ code: header.slice(6) }] })],
  ])('of a login %s', async (_, body) => {
    for (const status of [400, 403, 500]) {
      echo = (header, _request, response) =>
        header === '' ? challenge(response, 'Basic realm="x"') : response.writeHead(status).end(body(header));
      expectNone(await left(basic));
      expect(sent).toContain(`Basic ${ENCODED}`);
    }
  });

  it('a token, in its answer, its address and its challenge', async () => {
    const answers: ((header: string, response: ServerResponse) => void)[] = [
      (header, response) => response.writeHead(403).end(errors(header, header.slice(7))),
      (header, response) => response.writeHead(307, { location: `/v2/${header.slice(7)}` }).end(),
      (header, response) => challenge(response, header.replace(' ', '-')),
      (header, response) => response.writeHead(200, { 'content-type': header.slice(7) }).end('{}'),
      (header, response) => response.writeHead(200, { 'docker-content-digest': header.slice(7) }).end('{}'),
    ];
    for (const answer of answers) {
      echo = (header, request, response) => {
        if (request.url!.startsWith('/token')) response.end(JSON.stringify({ token: TOKEN }));
        else if (header === '') challenge(response, `Bearer realm="http://${host}/token"`);
        else answer(header, response);
      };
      expectNone(await left(basic));
      expect(sent).toContain(`Bearer ${TOKEN}`);
    }
  });

  it('an identity token, from its token server', async () => {
    echo = (header, request, response) => {
      if (request.url!.startsWith('/token')) response.writeHead(500).end(errors(sent.at(-1)!, IDENTITY));
      else if (header === '') challenge(response, `Bearer realm="http://${host}/token"`);
    };
    expectNone(await left({ identityToken: IDENTITY }));
    expect(sent.join()).toContain(IDENTITY);
  });

  it.skipIf(needs('dist').reason)('to the command line, at log level debug', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-echo-'));
    writeFileSync(join(dir, 'auth.json'), JSON.stringify({ auths: { [host]: { auth: ENCODED } } }));
    echo = (header, _request, response) =>
      header === '' ? challenge(response, 'Basic realm="x"') : response.writeHead(500).end(errors(header, PASSWORD));
    for (const format of ['text', 'json']) {
      const words = ['inspect', `docker://${host}/x:v`, '--authfile', join(dir, 'auth.json'), '--json'];
      const program = lacunaArgs(...words, '--log-level', 'debug', '--log-format', format);
      const shell = [process.execPath, ...program].map((word) => `'${word}'`).join(' ');
      const { stdout } = await run('sh', ['-c', `${shell} 2>&1 || true`]);
      expect(stdout).toContain('DENIED');
      expectNone(stdout);
    }
    rmSync(dir, { recursive: true });
  });
});
