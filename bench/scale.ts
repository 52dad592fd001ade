/**
 * How does memory grow with the number of files? `npm run bench:scale -- [--files N] [--huge GIB]` converts a layer that is
 * made as it is read, with N small files of different content, and prints what each file costs, alive and at the peak.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { packBootstrapLayer } from '../src/convert/bootstrap-layer.ts';
import { convertLayer } from '../src/convert/layer.ts';
import { mergeLayers } from '../src/convert/merge.ts';
import { planOf } from '../src/convert/options.ts';
import type { BlobUpload } from '../src/registry/store.ts';
import { TreeBudget } from '../src/tree/budget.ts';

const { values } = parseArgs({
  options: { files: { type: 'string', default: '1000000' }, huge: { type: 'string', default: '0' } },
});
const FILES = Number(values.files);
const HUGE = Number(values.huge) * 2 ** 30;
const PER_DIRECTORY = 1000;
const PIECE = 1024 * 1024;

/** A ustar header; sizes above 8 GiB in base 256. */
function header(name: string, size: number, time: number): Buffer {
  const out = Buffer.alloc(512);
  out.write(name, 0, 'latin1');
  out.write('0000644\0' + '0001750\0' + '0001750\0', 100, 'latin1');
  if (size < 8 * 2 ** 30) out.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  else {
    out[124] = 0x80;
    out.writeUIntBE(size, 130, 6);
  }
  out.write(`${time.toString(8).padStart(11, '0')}\0`, 136, 'latin1');
  out.write('        0', 148, 'latin1');
  out.write('ustar\x0000', 257, 'latin1');
  const sum = out.reduce((total, byte) => total + byte, 0);
  out.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return out;
}

function* members(): Generator<Buffer> {
  for (let i = 0; i < FILES; i++) {
    const content = Buffer.alloc(512);
    const size = 40 + (i % 400);
    content.write(`content of file ${i} `.repeat(20), 0, size, 'latin1');
    const directory = Math.floor(i / PER_DIRECTORY);
    const name = `usr/lib/node_modules/package-${directory}/file-number-${i}.js`;
    yield header(name, size, 1_700_000_000 + (i % 86_400));
    yield content;
  }
  if (HUGE > 0) {
    yield header('huge', HUGE, 0);
    const zeros = Buffer.alloc(PIECE);
    for (let at = 0; at < HUGE; at += PIECE) yield zeros;
  }
  yield Buffer.alloc(1024);
}

/** The tar in pieces as a network brings them; never whole. */
function* pieces(): Generator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for (const part of members()) {
    parts.push(part);
    length += part.length;
    if (length < PIECE) continue;
    yield Buffer.concat(parts);
    parts = [];
    length = 0;
  }
  yield Buffer.concat(parts);
}

const hash = createHash('sha256');
let size = 0;
for (const piece of pieces()) {
  hash.update(piece);
  size += piece.length;
}
const digest = `sha256:${hash.digest('hex')}`;

const nowhere: BlobUpload = { write: async () => {}, commit: async () => {}, abort: async () => {} };
const collect = (globalThis as { gc?: () => void }).gc ?? (() => {});

function alive(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

let peak = 0;
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss);
}, 50);

const [before, rssBefore] = [alive(), process.memoryUsage().rss];
const started = performance.now();
const plan = planOf({});
const layer = await convertLayer(
  {
    subject: 'layer',
    open: async function* () {
      yield* pieces();
    },
    digest,
    size,
    diffId: digest,
  },
  {
    options: plan.layer,
    reusableChunks: { lookup: async () => new Map() },
    budget: new TreeBudget(),
    upload: nowhere,
    signal: plan.signal,
    onRead: () => {},
  },
);
const afterLayer = alive() - before;
const merged = mergeLayers([layer], [], plan, 'image');
await packBootstrapLayer(merged.bootstrap, merged.metas, nowhere);
clearInterval(watch);
peak = Math.max(peak, process.memoryUsage().rss, process.resourceUsage().maxRSS * 1024);

const perFile = (bytes: number): string => `${Math.round(bytes / Math.max(FILES, 1))} bytes a file`;
console.log(
  `${FILES} files and ${HUGE / 2 ** 30} GiB of zeros in ${((performance.now() - started) / 1000).toFixed(1)} s`,
);
console.log(`layer, alive: ${perFile(afterLayer)}`);
console.log(`image, peak of the process: ${perFile(peak - rssBefore)}, ${(peak / 1e6).toFixed(0)} MB in all`);
console.log(`bootstrap: ${perFile(merged.bootstrap.length)}`);
