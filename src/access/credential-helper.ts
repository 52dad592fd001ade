/**
 * `docker-credential-*` programs, which keep credentials in key rings. Their protocol is that of
 * https://github.com/docker/docker-credential-helpers: an argument names the action, stdin and stdout carry the data.
 */
import { spawn } from 'node:child_process';
import { z } from 'zod';
import { LacunaError } from '../errors.ts';
import { parseSecretJson } from '../image/json.ts';
import type { Credentials } from './credential-source.ts';

const OP = 'read credentials';
/** Milliseconds. A helper may wait until the user unlocks a key ring. */
const DEFAULT_TIMEOUT = 30_000;
const MAX_OUTPUT = 1024 * 1024;

const helperOutput = z.looseObject({ Username: z.string(), Secret: z.string() });

export class CredentialHelper {
  readonly #program: string;
  readonly #timeout: number;

  /** `name`: without `docker-credential-`; `path`: the file that names the helper; `timeout`: milliseconds. */
  constructor(name: string, path: string, timeout = DEFAULT_TIMEOUT) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name)) {
      throw new LacunaError('CONFIG', `${path}: the name of a credential helper is not valid`, {
        op: OP,
        subject: path,
      });
    }
    this.#program = `docker-credential-${name}`;
    this.#timeout = timeout;
  }

  /** The credentials for a server; null when the helper has none. */
  async get(server: string): Promise<Credentials | null> {
    const { status, stdout } = await this.#run('get', server);
    if (status !== 0) {
      if (stdout.includes('credentials not found')) return null;
      throw this.#error(`exited with status ${status} for get ${server}`);
    }
    const result = helperOutput.safeParse(parseSecretJson(stdout));
    if (!result.success) throw this.#error('printed credentials in an unknown form');
    const { Username, Secret } = result.data;
    if (Username === '' && Secret === '') return null;
    return Username === '<token>' ? { identityToken: Secret } : { username: Username, password: Secret };
  }

  async store(server: string, username: string, password: string): Promise<void> {
    const document = { ServerURL: server, Username: username, Secret: password };
    const { status } = await this.#run('store', JSON.stringify(document));
    if (status !== 0) throw this.#error(`exited with status ${status} for store ${server}`);
  }

  /** Resolves with false when there was nothing to erase. */
  async erase(server: string): Promise<boolean> {
    return (await this.#run('erase', server)).status === 0;
  }

  #error(problem: string): LacunaError {
    const program = this.#program;
    return new LacunaError('UNAUTHORIZED', `${program} ${problem}`, {
      op: OP,
      subject: program,
      hint: `try: echo HOST | ${program} get`,
    });
  }

  #run(action: string, input: string): Promise<{ status: number; stdout: string }> {
    return new Promise((resolve, reject) => {
      // Its stderr is dropped: helpers may print secrets there.
      const child = spawn(this.#program, [action], { stdio: ['pipe', 'pipe', 'ignore'] });
      const output: Buffer[] = [];
      let size = 0;
      const fail = (problem: string): void => {
        clearTimeout(timer);
        child.kill('SIGKILL');
        // A process that the helper started may outlive it and hold the other ends of the pipes.
        child.stdout.destroy();
        child.stdin.destroy();
        reject(this.#error(problem));
      };
      const timer = setTimeout(() => fail(`did not finish within ${this.#timeout / 1000} s`), this.#timeout);
      child.stdout.on('data', (piece: Buffer) => {
        size += piece.length;
        if (size > MAX_OUTPUT) fail(`printed more than ${MAX_OUTPUT} bytes`);
        else output.push(piece);
      });
      child.on('error', (error) => {
        fail('code' in error && error.code === 'ENOENT' ? 'is not on the PATH' : 'could not be started');
      });
      child.on('close', (code, killedBy) => {
        clearTimeout(timer);
        if (code === null) reject(this.#error(`was killed by ${killedBy}`));
        else resolve({ status: code, stdout: Buffer.concat(output).toString('utf8') });
      });
      // A helper that exits without reading its input closes the pipe; its exit status tells the outcome.
      child.stdin.on('error', () => {});
      child.stdin.end(input);
    });
  }
}
