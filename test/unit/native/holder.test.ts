/** The holder: one per socket, outlives who started it, keeps descriptors, is not impressed by its clients. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ensureHolder, listHolder, quitHolder } from '../../../src/native/holder.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('linux', 'holder', 'python3');
const executable = fileURLToPath(new URL('../../../dist/native/lacuna-holder', import.meta.url));

/** One connection: sends what is given, ends its side if told to, gives what comes back. */
async function talk(socket: string, text: string | Buffer, end = false): Promise<string> {
  const connection = connect(socket);
  connection.on('error', () => {});
  let answer = '';
  connection.on('data', (data) => {
    answer += data;
  });
  if (end) connection.end(text);
  else connection.write(text);
  await once(connection, 'close');
  return answer;
}

/** Keeps and fetches a pipe with python3, since Node cannot send descriptors; gives what was read through it. */
function throughPipe(socket: string): string {
  const script = `
import os, socket, sys
def ask(line, *fds):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    socket.send_fds(client, [line], fds)
    return socket.recv_fds(client, 4096, 4)[:2]
reader, writer = os.pipe()
assert ask(b"PUT pipe 00ff\\n", writer) == (b"OK\\n", []), "put"
os.close(writer)
answer, (again,) = ask(b"GET pipe\\n")
os.write(again, answer)
assert ask(b"DROP pipe\\n") == (b"OK\\n", [])
os.close(again)
print(os.read(reader, 100), os.read(reader, 100))
`;
  const { stdout, stderr } = spawnSync('python3', ['-c', script, socket], { encoding: 'utf8' });
  return stdout + stderr;
}

const alive = (pid: number): boolean => {
  try {
    // A zombie has ended; who its parent is now, and when it looks, is not ours.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

describe.skipIf(skip.reason)('holder', () => {
  let dir: string;
  let socket: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-holder-'));
    socket = join(dir, 'holder.sock');
  });
  afterEach(async () => {
    await quitHolder(socket);
    rmSync(dir, { recursive: true, force: true });
  });

  test('keeps a descriptor with its state, and lets it go', async () => {
    await ensureHolder(socket);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(throughPipe(socket)).toBe("b'OK 00ff\\n' b''\n");
    expect(await listHolder(socket)).toEqual([]);
  });

  test('starting it again gives the same one; ten at once start one', async () => {
    const pids = await Promise.all(Array.from({ length: 10 }, () => ensureHolder(socket)));
    expect(new Set(pids).size).toBe(1);
    expect(await ensureHolder(socket)).toBe(pids[0]);
    expect(alive(pids[0]!)).toBe(true);
  });

  test('outlives its starter and the signals of its group', async () => {
    const starter = spawn('sh', ['-c', `"${executable}" "${socket}"; sleep 100`], {
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [line] = (await once(starter.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    process.kill(-starter.pid!, 'SIGKILL');
    await once(starter, 'exit');
    for (const signal of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGPIPE'] as const) process.kill(pid, signal);
    await sleep(50);
    expect(await listHolder(socket)).toEqual([]);
    expect(alive(pid)).toBe(true);
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')[3]).toBe(`${pid}`);
  });

  test('ends by QUIT, and by nothing left behind is the next one stopped', async () => {
    const first = await ensureHolder(socket);
    expect(await quitHolder(socket)).toBe(true);
    while (alive(first)) await sleep(5);
    expect(existsSync(socket)).toBe(false);
    expect(await quitHolder(socket)).toBe(false);
    expect(await listHolder(socket)).toBe(null);
    const second = await ensureHolder(socket);
    process.kill(second, 'SIGKILL');
    while (alive(second)) await sleep(5);
    expect(existsSync(socket)).toBe(true);
    expect(await listHolder(socket)).toBe(null);
    const third = await ensureHolder(socket);
    expect(third).not.toBe(second);
    expect(await listHolder(socket)).toEqual([]);
  });

  test('survives clients that talk nonsense, too much, or not at all', async () => {
    const pid = await ensureHolder(socket);
    expect(await talk(socket, 'HELLO\n')).toBe('ERR unknown request\n');
    expect(await talk(socket, 'PUT name\n')).toBe('ERR PUT needs a descriptor\n');
    expect(await talk(socket, 'GET nothing\n')).toBe('NONE\n');
    expect(await talk(socket, 'STATE nothing zz\n')).toBe('ERR bad state\n');
    expect(await talk(socket, 'PID\n')).toBe(`OK ${pid}\n`);
    expect(await talk(socket, 'LIST', true)).toBe('');
    expect(await talk(socket, Buffer.alloc(5000, 'x').toString())).toBe('');
    expect(await talk(socket, Buffer.of(0xff, 0xfe, 10))).toBe('');
    // Says nothing: is sent away after two seconds, and the next one is served.
    const mute = talk(socket, '');
    const began = Date.now();
    await sleep(20);
    expect(await listHolder(socket)).toEqual([]);
    expect(Date.now() - began).toBeLessThan(4000);
    expect(await mute).toBe('');
    expect(alive(pid)).toBe(true);
  });

  test('a file that is in the way is an error', async () => {
    rmSync(dir, { recursive: true });
    writeFileSync(dir, '');
    await expect(ensureHolder(socket)).rejects.toMatchObject({
      code: 'SYSTEM',
      subject: socket,
      message: expect.stringContaining('Not a directory'),
    });
    const { status, stderr } = spawnSync(executable, [], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([2, 'usage: lacuna-holder SOCKET\n']);
    rmSync(dir);
  });
});
