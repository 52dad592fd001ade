/**
 * Credentials from where `docker login` keeps them: config.json (`auths`, `credHelpers`, `credsStore`) and the
 * `docker-credential-*` programs it names. Read anew each time, so that a new login is seen.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { LacunaError } from '../errors.ts';
import { withoutNulls } from '../image/json.ts';
import type { CredentialSource, Credentials } from './store.ts';

const OP = 'read credentials';

/** How docker.io is called in config.json and by helpers. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

/** Milliseconds. A helper may ask a key ring that has to be unlocked. */
const HELPER_TIMEOUT = 60_000;
const MAX_HELPER_OUTPUT = 1024 * 1024;

const authEntry = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});

const dockerConfig = z.looseObject({
  auths: z.record(z.string(), authEntry).optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});

type DockerConfig = z.infer<typeof dockerConfig>;
type AuthEntry = z.infer<typeof authEntry>;

const helperAnswer = z.looseObject({ Username: z.string(), Secret: z.string() });

/** Credentials of Docker's config: `dir`, else `$DOCKER_CONFIG`, else `~/.docker`. A missing file knows nobody. */
export function dockerConfigCredentials(options: { readonly dir?: string } = {}): CredentialSource {
  return async (host) => {
    const dir = options.dir ?? (process.env.DOCKER_CONFIG || join(homedir(), '.docker'));
    const path = join(dir, 'config.json');
    const config = await readConfig(path);
    if (config === null) return null;
    const key = host === 'docker.io' ? DOCKER_HUB_KEY : host;
    const helper = config.credHelpers?.[key] ?? config.credHelpers?.[host] ?? config.credsStore;
    const helped = helper ? await askHelper(helper, key, path) : null;
    return helped ?? fromAuths(config, host, path);
  };
}

async function readConfig(path: string): Promise<DockerConfig | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return null;
    throw new LacunaError('CONFIG', `${path} cannot be read`, { op: OP, subject: path, cause: error });
  }
  // Neither the parser's message nor the validator's input may be shown: the file holds passwords.
  const result = dockerConfig.safeParse(tryJson(text));
  if (result.success) return result.data;
  const where = result.error.issues[0]?.path.join('.') || 'the document';
  throw new LacunaError('CONFIG', `${path}: ${where} is not what docker login writes`, { op: OP, subject: path });
}

function tryJson(text: string): unknown {
  try {
    return withoutNulls(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The registry that a key of `auths` is for: keys may be URLs, with a path of the v1 API. */
function hostOf(key: string): string {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}

function fromAuths(config: DockerConfig, host: string, path: string): Credentials | null {
  const auths = config.auths ?? {};
  const exact = Object.hasOwn(auths, host) ? auths[host] : undefined;
  const entry = exact ?? Object.entries(auths).find(([key]) => hostOf(key) === host)?.[1];
  return entry === undefined ? null : fromEntry(entry, host, path);
}

function fromEntry(entry: AuthEntry, host: string, path: string): Credentials | null {
  if (entry.identitytoken) return { identityToken: entry.identitytoken };
  if (entry.auth) {
    const text = Buffer.from(entry.auth, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon < 1) {
      throw new LacunaError('CONFIG', `${path}: auths: the entry of ${host} is not base64 of USER:PASSWORD`, {
        op: OP,
        subject: path,
      });
    }
    // Docker pads with NULs.
    return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
  }
  if (entry.username) return { username: entry.username, password: entry.password ?? '' };
  return null;
}

/** Protocol: https://github.com/docker/docker-credential-helpers — the key on stdin, JSON on stdout. */
async function askHelper(helper: string, key: string, path: string): Promise<Credentials | null> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(helper)) {
    throw new LacunaError('CONFIG', `${path}: not the name of a credential helper`, { op: OP, subject: path });
  }
  const program = `docker-credential-${helper}`;
  const { status, stdout } = await run(program, ['get'], key);
  if (status !== 0) {
    if (stdout.includes('credentials not found')) return null;
    throw helperError(program, `ended with status ${status} when asked for ${key}`);
  }
  const result = helperAnswer.safeParse(tryJson(stdout));
  if (!result.success) throw helperError(program, 'answered with something that is not its protocol');
  const { Username, Secret } = result.data;
  if (Username === '' && Secret === '') return null;
  return Username === '<token>' ? { identityToken: Secret } : { username: Username, password: Secret };
}

const helperError = (program: string, problem: string): LacunaError =>
  new LacunaError('UNAUTHORIZED', `${program} ${problem}`, {
    op: OP,
    subject: program,
    hint: `try: echo HOST | ${program} get`,
  });

function run(program: string, args: readonly string[], input: string): Promise<{ status: number; stdout: string }> {
  return new Promise((resolve, reject) => {
    // Its stderr goes nowhere: helpers print there what they like, secrets included.
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'], timeout: HELPER_TIMEOUT });
    const output: Buffer[] = [];
    let size = 0;
    child.stdout.on('data', (piece: Buffer) => {
      size += piece.length;
      if (size > MAX_HELPER_OUTPUT) child.kill('SIGKILL');
      else output.push(piece);
    });
    child.on('error', (error) => {
      const isMissing = 'code' in error && error.code === 'ENOENT';
      reject(helperError(program, isMissing ? 'is not on the PATH' : 'could not be started'));
    });
    child.on('close', (code, killedBy) => {
      if (size > MAX_HELPER_OUTPUT) reject(helperError(program, 'answered with too much'));
      else if (code === null)
        reject(helperError(program, `was ended by ${killedBy} (it has ${HELPER_TIMEOUT / 1000} s)`));
      else resolve({ status: code, stdout: Buffer.concat(output).toString('utf8') });
    });
    // A helper that exits without reading its input closes the pipe; its status tells the rest.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
