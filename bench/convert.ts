/**
 * How long does a conversion take beside merely decompressing and hashing the same layer? The rival is
 * `gzip -dc LAYER | sha256sum`, run in turn with `lacuna convert oci: oci:`, whole processes, medians.
 *
 * usage: npm run bench:convert [-- --runs N] [-- --json]
 */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cacheDir } from '#cache';
import { lacunaArgs } from '../test/kit/lacuna.ts';
import { run } from '../test/kit/process.ts';
import { demoImage } from '../test/kit/testbed.ts';

/** Runs a command with its output thrown away and prints seconds, CPU seconds and peak memory of its whole tree in KiB. */
const MEASURE = `
import json, os, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": done.returncode, "wall": wall, "cpu": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss}))
`;

interface Sample {
  readonly wall: number;
  readonly cpu: number;
  /** KiB, of the largest process. */
  readonly rss: number;
}

async function measure(command: string, ...args: string[]): Promise<Sample> {
  const { stdout, stderr } = await run('python3', ['-c', MEASURE, command, ...args]);
  const sample = JSON.parse(stdout) as Sample & { status: number };
  if (sample.status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stderr}`);
  return sample;
}

/** The demo image's merged tree as an OCI layout with one gzip layer, made once. Returns the layout and the layer's path. */
async function flatImage(): Promise<{ readonly layout: string; readonly layer: string }> {
  const layout = join(cacheDir(), 'demo-flat-1');
  if (!existsSync(layout)) {
    const image = await demoImage();
    const work = mkdtempSync(join(cacheDir(), 'demo-flat.tmp.'));
    try {
      await run('umoci', ['unpack', '--image', `${image.layout}:demo`, join(work, 'bundle')]);
      await run('umoci', ['init', '--layout', join(work, 'flat')]);
      await run('umoci', ['new', '--image', `${join(work, 'flat')}:flat`]);
      const tar = join(work, 'layer.tar');
      const flags = ['--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=*'];
      await run('tar', [...flags, '-C', join(work, 'bundle', 'rootfs'), '-cf', tar, '.']);
      await run('umoci', ['raw', 'add-layer', '--image', `${join(work, 'flat')}:flat`, tar]);
      await run('umoci', ['gc', '--layout', join(work, 'flat')]);
      renameSync(join(work, 'flat'), layout);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  // The layer is by far the largest of the layout's blobs.
  const blobs = readdirSync(join(layout, 'blobs', 'sha256')).map((name) => join(layout, 'blobs', 'sha256', name));
  return { layout, layer: blobs.reduce((a, b) => (statSync(a).size > statSync(b).size ? a : b)) };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '5' }, json: { type: 'boolean', default: false } },
});
const { layout, layer } = await flatImage();
const out = mkdtempSync(join(tmpdir(), 'lacuna-convert-'));
const rival: Sample[] = [];
const ours: Sample[] = [];
try {
  for (let turn = 0; turn < Number(values.runs); turn += 1) {
    rival.push(await measure('sh', '-c', `gzip -dc ${layer} | sha256sum`));
    const target = join(out, String(turn));
    const args = lacunaArgs('convert', `oci:${layout}:flat`, `oci:${target}:lazy`, '--progress', 'none');
    ours.push(await measure(process.execPath, ...args));
    rmSync(target, { recursive: true });
  }
} finally {
  rmSync(out, { recursive: true, force: true });
}

const wall = (samples: readonly Sample[]): number => median(samples.map((sample) => sample.wall));
const row = (name: string, samples: readonly Sample[]): string =>
  [
    name.padEnd(28),
    `${wall(samples).toFixed(2)} s`.padStart(9),
    `${median(samples.map((sample) => sample.cpu)).toFixed(2)} s`.padStart(9),
    `${Math.round(Math.max(...samples.map((sample) => sample.rss)) / 1024)} MiB`.padStart(10),
    `  (${samples.map((sample) => sample.wall.toFixed(2)).join(' ')})`,
  ].join('');
const ratio = wall(ours) / wall(rival);
const peak = Math.max(...ours.map((sample) => sample.rss)) * 1024;
if (values.json)
  console.log(JSON.stringify({ ratio, seconds: wall(ours), rivalSeconds: wall(rival), peakBytes: peak }));
else {
  console.log(
    [
      `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} cores, Node ${process.version}`,
      `one gzip layer of ${(statSync(layer).size / 1e6).toFixed(1)} MB, oci: to oci:, median of ${values.runs} in turn`,
      '',
      `${''.padEnd(28)}     wall      CPU      peak`,
      row('gzip -dc | sha256sum', rival),
      row('lacuna convert', ours),
      '',
      `${ratio.toFixed(2)} times the rival's time, peak memory ${(peak / 1e6).toFixed(0)} MB`,
    ].join('\n'),
  );
}
