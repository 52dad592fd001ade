/** The other way round: what `nydus-image` 2.2.0 builds is what Lacuna reads, apart from the times that the tool loses. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { oraclePath } from '#cache';
import { imageRows } from '../kit/image-rows.ts';
import { layerTars } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, type TimeRule, walk } from '../kit/tree.ts';
import { truthWithoutAcl, withoutAcl } from './without-acl.ts';

const skip = needs('root', 'addon', 'python3', 'tar', 'nydus-image');

/** Of layer 1 alone: type, further arguments. */
const SINGLE: ReadonlyArray<readonly [type: string, ...args: string[]]> = [
  ['tar-rafs'],
  ['tar-rafs', '--compressor', 'lz4_block', '--digester', 'sha256', '--chunk-size', '0x1000'],
  ['tar-rafs', '--compressor', 'none', '--chunk-size', '0x10000'],
  ['tar-rafs', '--features', 'blob-toc', '--chunk-size', '0x1000000'],
  ['tar-rafs', '--prefetch-policy', 'fs'],
  ['targz-rafs', '--digester', 'sha256'],
  ['targz-ref'],
  ['targz-ref', '--chunk-size', '0x10000'],
];

/** Of all three layers, merged: how each is built; the third may refer to the chunks of the first. */
const MERGED: ReadonlyArray<readonly [what: string, type: string, dict: boolean]> = [
  ['tar-rafs', 'tar-rafs', false],
  ['tar-rafs with a chunk dictionary', 'tar-rafs', true],
  ['targz-ref', 'targz-ref', false],
];

/** 2.2.0 passes over the pax records in which these have their owners; the header's fields are 0. */
const PAX_OWNERS = ['/own/u-max', '/own/u3m'];
const truthOf = (file: string): Row[] =>
  truthWithoutAcl(file).map((row) => (PAX_OWNERS.includes(row.path!) ? { ...row, uid: 0, gid: 0 } : row));

/** As `nydusImageTime`; a directory as source leaves the root without a time. */
const dirTime: TimeRule = (expected, actual) => expected.path === '/' || nydusImageTime(expected, actual);

describe.skipIf(skip.reason)('what nydus-image 2.2.0 builds', () => {
  const dir = mkdtempSync(join(tmpdir(), 'nydus-image-'));
  const layer = (n: number, type: string): string => join(dir, `${n}.tar${type.startsWith('targz') ? '.gz' : ''}`);

  beforeAll(() => {
    // In one gzip member: of several it reads only the first.
    for (const [i, tar] of layerTars('oci/tame-mini', 'tame-mini-gzip').entries()) {
      const changed = withoutAcl(tar);
      writeFileSync(layer(i + 1, 'tar'), changed);
      writeFileSync(layer(i + 1, 'targz'), gzipSync(changed));
    }
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** Runs `create`; the paths to prefetch are read from standard input. Returns the id of its own blob. */
  function create(type: string, source: string, target: string, ...args: string[]): string {
    const report = join(target, 'output.json');
    const result = spawnSync(
      oraclePath('nydus-image'),
      ['create', '-t', type, '-D', target, '--whiteout-spec', 'none', '-J', report, ...args, source],
      { input: '/sizes\n/links\n', encoding: 'utf8' },
    );
    if (result.status !== 0) throw new Error(`${result.stdout}${result.stderr}`);
    return (JSON.parse(readFileSync(report, 'utf8')) as { blobs: [string] }).blobs[0];
  }

  /** A folder for an image; a reference's data is the layer itself, by its digest. */
  const folder = (): string => mkdtempSync(join(dir, 'i-'));
  const keepLayer = (type: string, n: number, id: string, target: string): void => {
    if (type === 'targz-ref') writeFileSync(join(target, id), readFileSync(layer(n, type)));
  };

  it.each(SINGLE.map((args) => ({ what: args.join(' '), args })))('$what', async ({ args: [type, ...args] }) => {
    const target = folder();
    const bootstrap = join(target, 'bootstrap');
    keepLayer(type, 1, create(type, layer(1, type), target, '-B', bootstrap, ...args), target);
    const truth = truthOf('tame-mini.only-layer1.merged.jsonl');
    expect(diffTrees(truth, await imageRows(`rafs:${bootstrap},blobs=${target}`), { time: nydusImageTime })).toEqual(
      [],
    );
  });

  it('tar-rafs --blob-inline-meta', async () => {
    const target = folder();
    const id = create('tar-rafs', layer(1, 'tar'), target, '--blob-inline-meta');
    // The bootstrap is the last member of a tar that is read backwards: its header follows it.
    const blob = readFileSync(join(target, id));
    const header = blob.subarray(-512);
    const size = Number.parseInt(header.toString('latin1', 124, 136), 8);
    const bootstrap = join(target, `${id}.boot`);
    writeFileSync(bootstrap, blob.subarray(blob.length - 512 - size, blob.length - 512));
    const truth = truthOf('tame-mini.only-layer1.merged.jsonl');
    expect(diffTrees(truth, await imageRows(`rafs:${bootstrap},blobs=${target}`), { time: nydusImageTime })).toEqual(
      [],
    );
  });

  it('dir-rafs', async () => {
    const [source, target] = [join(dir, 'tree'), folder()];
    mkdirSync(source);
    await run('tar', ['--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', layer(1, 'tar'), '-C', source]);
    const bootstrap = join(target, 'bootstrap');
    create('dir-rafs', source, target, '-B', bootstrap);
    const found = await imageRows(`rafs:${bootstrap},blobs=${target}`);
    expect(diffTrees(await walk(source), found, { time: dirTime })).toEqual([]);
  });

  it.each(MERGED)('three layers merged: %s', async (_, type, dict) => {
    const target = folder();
    const bootstraps = join(target, 'layers');
    mkdirSync(bootstraps);
    let known: string[] = [];
    const parts = [1, 2, 3].map((n) => {
      const made = join(bootstraps, 'made');
      const id = create(type, layer(n, type), target, '-B', made, ...known);
      keepLayer(type, n, id, target);
      // A merge takes a blob's id from the name of its bootstrap.
      const part = join(bootstraps, id);
      renameSync(made, part);
      if (dict && n === 1) known = ['--chunk-dict', `bootstrap=${part}`];
      return part;
    });
    const bootstrap = join(target, 'bootstrap');
    await run(oraclePath('nydus-image'), ['merge', '-B', bootstrap, ...known, ...parts]);
    const truth = truthOf('tame-mini.merged.jsonl');
    expect(diffTrees(truth, await imageRows(`rafs:${bootstrap},blobs=${target}`), { time: nydusImageTime })).toEqual(
      [],
    );
  });
});
