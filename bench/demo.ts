/**
 * How soon does a real image start, lazily and after a full pull? One run of each over the same link, fresh roots, cold
 * caches. `npm run demo [-- --json] [-- --rtt MS --mbit N]`
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { LinkShape } from '../test/kit/shaped-link.ts';
import {
  COMMAND,
  convertDemo,
  DEFAULT_LINK,
  type DemoImage,
  demoImage,
  demoRegistry,
  EXPECTED_OUTPUT,
  fullPullAndRun,
  LazyHost,
  linkTo,
  type Start,
} from '../test/kit/testbed.ts';

interface Comparison {
  readonly image: DemoImage;
  readonly link: LinkShape;
  readonly full: Start;
  readonly lazy: Start;
}

const say = (text: string): void => void process.stderr.write(`demo: ${text}\n`);
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

function checked(start: Start): Start {
  if (start.output === EXPECTED_OUTPUT) return start;
  throw new Error(
    `the container printed ${JSON.stringify(start.output)} instead of ${JSON.stringify(EXPECTED_OUTPUT)}`,
  );
}

async function compare(dir: string, shape: LinkShape, signal: AbortSignal): Promise<Comparison> {
  const image = await demoImage(signal);
  say(`pushing ${megabytes(image.bytes)} in ${image.layers} layers to a registry`);
  await using registry = await demoRegistry(join(dir, 'registry'), image, signal);
  say('converting it, from the registry and back to it');
  const began = performance.now();
  await convertDemo(registry, signal);
  say(`converted in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  await using link = await linkTo(registry, shape);
  say('full pull and run');
  const full = checked(await fullPullAndRun(join(dir, 'f'), link, signal));
  say('lazy pull and run');
  await using host = await LazyHost.start(join(dir, 'z'));
  const lazy = checked(await host.pullAndRun(link, signal));
  return { image, link: shape, full, lazy };
}

function table({ image, link, full, lazy }: Comparison): string {
  const row = (name: string, seconds: string, bytes: string, requests: string): string =>
    `${name.padEnd(22)}${seconds.padStart(14)}${bytes.padStart(12)}${requests.padStart(11)}`;
  const measured = (name: string, start: Start): string =>
    row(name, `${start.seconds.toFixed(2)} s`, megabytes(start.bytes), String(start.requests));
  const percent = ((100 * lazy.bytes) / image.bytes).toFixed(1);
  return [
    '',
    `Debian bookworm, python3 + numpy, nodejs, nginx: ${image.layers} layers, ${megabytes(image.bytes)} compressed`,
    `over ${link.rtt} ms, ${link.bandwidth / 1e6} Mbit/s; caches dropped, fresh roots`,
    `$ ${COMMAND.slice(0, -1).join(' ')} '${COMMAND.at(-1)}'`,
    '',
    row('', 'first output', 'fetched', 'requests'),
    measured('full pull, overlayfs', full),
    measured('lazy pull, lacuna', lazy),
    '',
    `${(full.seconds / lazy.seconds).toFixed(1)} times sooner, with ${percent} % of the image's compressed bytes`,
  ].join('\n');
}

function document({ image, full, lazy }: Comparison): string {
  return JSON.stringify({
    image: { bytes: image.bytes },
    fullPull: { seconds: full.seconds, bytes: full.bytes },
    lazy: { seconds: lazy.seconds, bytes: lazy.bytes, requests: lazy.requests },
  });
}

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rtt: { type: 'string', default: String(DEFAULT_LINK.rtt) },
    mbit: { type: 'string', default: String(DEFAULT_LINK.bandwidth / 1e6) },
  },
});
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort());
const dir = mkdtempSync(join(tmpdir(), 'lacuna-demo-'));
try {
  const shape = { rtt: Number(values.rtt), bandwidth: Number(values.mbit) * 1e6 };
  const comparison = await compare(dir, shape, stop.signal);
  console.log(values.json ? document(comparison) : table(comparison));
} catch (error) {
  if (stop.signal.aborted) say('interrupted, everything is taken down');
  else say(error instanceof Error ? error.message : String(error));
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
