/**
 * `docker-credential-*` programs, which keep credentials in key rings. Their protocol is that of
 * https://github.com/docker/docker-credential-helpers: a word says what to do, the rest goes over stdin and stdout.
 */
import { spawn } from 'node:child_process';
import { z } from 'zod';
import { LacunaError } from '../errors.ts';
import { parseSecretJson } from '../image/json.ts';
import type { Credentials } from './credential-source.ts';

const OP = 'read credentials';
/** Milliseconds. A helper may ask a key ring that has to be unlocked. */
const PATIENCE = 30_000;
const MAX_OUTPUT = 1024 * 1024;

const answer = z.looseObject({ Username: z.string(), Secret: z.string() });

export class CredentialHelper {
  readonly #program: string;
  readonly #patience: number;

  /** `name`: what follows `docker-credential-`; `path`: the file that names it. */
  constructor(name: string, path: string, patience = PATIENCE) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name)) {
      throw new LacunaError('CONFIG', `${path}: not the name of a credential helper`, { op: OP, subject: path });
    }
    this.#program = `docker-credential-${name}`;
    this.#patience = patience;
  }

  /** Null: it knows nobody there. */
  async get(server: string): Promise<Credentials | null> {
    const { status, stdout } = await this.#run('get', server);
    if (status !== 0) {
      if (stdout.includes('credentials not found')) return null;
      throw this.#error(`ended with status ${status} when asked for ${server}`);
    }
    const result = answer.safeParse(parseSecretJson(stdout));
    if (!result.success) throw this.#error('answered with something that is not its protocol');
    const { Username, Secret } = result.data;
    if (Username === '' && Secret === '') return null;
    return Username === '<token>' ? { identityToken: Secret } : { username: Username, password: Secret };
  }

  async store(server: string, username: string, password: string): Promise<void> {
    const document = { ServerURL: server, Username: username, Secret: password };
    const { status } = await this.#run('store', JSON.stringify(document));
    if (status !== 0) throw this.#error(`ended with status ${status} when it should keep a password for ${server}`);
  }

  /** False: there was nothing to erase. */
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
      // Its stderr goes nowhere: helpers print there what they like, secrets included.
      const child = spawn(this.#program, [action], { stdio: ['pipe', 'pipe', 'ignore'] });
      const output: Buffer[] = [];
      let size = 0;
      const fail = (problem: string): void => {
        clearTimeout(timer);
        child.kill('SIGKILL');
        // What it has started may live on with the other ends.
        child.stdout.destroy();
        child.stdin.destroy();
        reject(this.#error(problem));
      };
      const timer = setTimeout(() => fail(`did not answer within ${this.#patience / 1000} s`), this.#patience);
      child.stdout.on('data', (piece: Buffer) => {
        size += piece.length;
        if (size > MAX_OUTPUT) fail('answered with too much');
        else output.push(piece);
      });
      child.on('error', (error) => {
        fail('code' in error && error.code === 'ENOENT' ? 'is not on the PATH' : 'could not be started');
      });
      child.on('close', (code, killedBy) => {
        clearTimeout(timer);
        if (code === null) reject(this.#error(`was ended by ${killedBy}`));
        else resolve({ status: code, stdout: Buffer.concat(output).toString('utf8') });
      });
      // A helper that exits without reading its input closes the pipe; its status tells the rest.
      child.stdin.on('error', () => {});
      child.stdin.end(input);
    });
  }
}
