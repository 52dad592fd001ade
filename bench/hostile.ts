/**
 * What do a hostile registry and a hostile image cost the others of a host? A victim is started cold and read again from the
 * cache, alone and in turn beside a silent registry, whose image is read ahead by one thread, and an image that lies about the
 * victim's blob, read in a loop. `npm run bench:hostile [-- --rounds N] [-- --json]`, as root.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openBootstrap } from '../src/formats/rafs/open.ts';
import { writeBootstrap } from '../src/formats/rafs/write.ts';
import { plainChunk } from '../src/tree/node.ts';
import { DaemonFixture, dropPageCache, type MadeImage, makeFlatImage, noise } from '../test/kit/daemon-fixture.ts';
import { run, start } from '../test/kit/process.ts';
import { startRegistry, type TestRegistry } from '../test/kit/registry.ts';
import { ShapedLink } from '../test/kit/shaped-link.ts';
import { DEFAULT_LINK } from '../test/kit/testbed.ts';

const KIB = 1024;
const CHUNK = 128 * KIB;
/** Files of the victim: 24 MiB that do not compress. */
const FILES = 48;
const FILE_SIZE = 512 * KIB;
/** Files of the image of the silent registry. */
const MANY = 1500;

/** Reads all files of a folder with four threads, in an order that is always the same; prints the seconds. */
const READ_ALL = `
import os, sys, time, random
from concurrent.futures import ThreadPoolExecutor
names = sorted(os.listdir(sys.argv[1])); random.Random(7).shuffle(names)
def read(name):
    with open(os.path.join(sys.argv[1], name), 'rb') as f: return len(f.read())
began = time.monotonic()
with ThreadPoolExecutor(4) as pool: total = sum(pool.map(read, names))
print(time.monotonic() - began, total)
`;

const READ_AHEAD = `
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], name), os.O_RDONLY) for name in sorted(os.listdir(sys.argv[1]))]
while True:
    for fd in fds: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    time.sleep(0.5)
`;

const READ_AGAIN = `
import os, sys
names = sorted(os.listdir(sys.argv[1]))
while True:
    for name in names:
        try: open(os.path.join(sys.argv[1], name), 'rb').read()
        except OSError: pass
`;

interface Measured {
  readonly cold: number;
  readonly cached: number;
}

/** The host, the honest registry, and the link between them. */
interface Testbed {
  readonly room: DaemonFixture;
  readonly honest: TestRegistry;
  readonly link: ShapedLink;
}

/** Puts the blob of an image into a registry. */
function serve({ dir }: MadeImage, registry: TestRegistry): void {
  for (const name of readdirSync(dir)) {
    if (/^[0-9a-f]{64}$/.test(name)) registry.storage.putBlob('some/image', readFileSync(join(dir, name)));
  }
}

const source = (host: string) => [{ registry: { host, repository: 'some/image', plainHttp: true } }];

/** A bootstrap that names the image's blob, with other digests. */
function lie({ bootstrap }: MadeImage, path: string): void {
  const image = openBootstrap(readFileSync(bootstrap), { subject: 'victim' });
  const root = image.root();
  for (const node of root.children!.values()) {
    node.chunks = node.chunks.map((chunk) => plainChunk(chunk, { digest: Buffer.alloc(32, 1) }));
  }
  writeFileSync(path, writeBootstrap(root, image.blobs, { chunkSize: CHUNK, compressor: 3, digester: 0 }));
}

async function readAll(target: string): Promise<number> {
  const [seconds, bytes] = (await run('python3', ['-c', READ_ALL, target])).stdout.split(' ').map(Number);
  if (bytes !== FILES * FILE_SIZE) throw new Error(`${bytes} bytes were read instead of ${FILES * FILE_SIZE}`);
  return seconds!;
}

const contents = (count: number, size: number, seed: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, noise(seed + index, size)]));

/** An image that nobody has read before. */
async function freshVictim({ room, honest }: Testbed, round: number): Promise<MadeImage> {
  const victim = await makeFlatImage(contents(FILES, FILE_SIZE, (round + 1) * FILES), CHUNK, room.folder(`v-${round}`));
  serve(victim, honest);
  return victim;
}

/** Attaches and reads the victim with nothing of it in the cache, then again from the cache. */
async function measure({ room, link }: Testbed, { bootstrap }: MadeImage, id: string): Promise<Measured> {
  await dropPageCache();
  const target = await room.mount(id, bootstrap, source(link.address));
  const cold = await readAll(target);
  const cached: number[] = [];
  for (let time = 0; time < 5; time++) {
    await dropPageCache();
    cached.push(await readAll(target));
  }
  await room.unmount(id);
  return { cold, cached: median(cached) };
}

const waiting = async (room: DaemonFixture): Promise<number> => (await room.client.status()).counters.waiting;

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 200));
}

/** The hostile ones at work while `body` runs; afterwards nothing of them waits any more. */
async function beside<T>(room: DaemonFixture, silent: string, lying: string, body: () => Promise<T>): Promise<T> {
  const readers = [start('python3', ['-c', READ_AHEAD, silent]), start('python3', ['-c', READ_AGAIN, lying])];
  try {
    await until(async () => (await waiting(room)) > MANY / 2);
    return await body();
  } finally {
    for (const { child } of readers) child.kill('SIGKILL');
    await until(async () => (await waiting(room)) === 0);
  }
}

/** Both measurements, with an image each that is new to the host. */
async function compare(bed: Testbed, silent: string, round: number): Promise<readonly [Measured, Measured]> {
  const { room, link } = bed;
  const alone = await measure(bed, await freshVictim(bed, 2 * round), `alone-${round}`);
  const victim = await freshVictim(bed, 2 * round + 1);
  const bootstrap = join(room.dir, `lie-${round}`);
  lie(victim, bootstrap);
  const lying = await room.mount(`lie-${round}`, bootstrap, source(link.address));
  const besides = await beside(room, silent, lying, () => measure(bed, victim, `beside-${round}`));
  await room.unmount(`lie-${round}`);
  return [alone, besides];
}

async function compareAll(rounds: number): Promise<(readonly [Measured, Measured])[]> {
  await using room = await DaemonFixture.start();
  await using honest = await startRegistry();
  await using hostile = await startRegistry();
  const port = Number(honest.host.split(':')[1]);
  await using link = await ShapedLink.open({ host: 'localhost', port }, DEFAULT_LINK);
  const many = await makeFlatImage(contents(MANY, 4 * KIB, 50_000), 4 * KIB, room.folder('many'));
  serve(many, hostile);
  const silent = await room.mount('silent', many.bootstrap, source(hostile.host));
  hostile.fault = () => ({ kind: 'hang' });
  const measured: (readonly [Measured, Measured])[] = [];
  for (let round = 0; round < rounds; round++) {
    const pair = await compare({ room, honest, link }, silent, round);
    measured.push(pair);
    const [alone, besides] = pair.map(({ cold, cached }) => `${cold.toFixed(2)} ${cached.toFixed(2)}`);
    process.stderr.write(`round ${round + 1}: cold and cached seconds, alone ${alone}, beside ${besides}\n`);
  }
  hostile.fault = () => ({ kind: 'status', status: 404 });
  return measured;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'boolean', default: false } },
});
const measured = await compareAll(Number(values.rounds));
const result = (['cold', 'cached'] as const).map((what) => {
  const [alone, besides] = [0, 1].map((which) => median(measured.map((pair) => pair[which]![what])));
  return { what, alone: alone!, beside: besides!, ratio: besides! / alone! };
});
if (values.json) console.log(JSON.stringify(result));
else
  for (const { what, alone, beside: besides, ratio } of result) {
    console.log(
      `${what.padEnd(8)} alone ${alone.toFixed(2)} s, beside ${besides.toFixed(2)} s: ${ratio.toFixed(2)} times`,
    );
  }
