/** Images of every form compared, against what their ground truths say. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Difference, type DiffOptions, diff } from '../../../src/inspect/diff.ts';
import { diffConfig } from '../../../src/inspect/diff-config.ts';
import { fixture, sha256 } from '../../kit/layers.ts';
import { type Row, readRows } from '../../kit/tree.ts';

const NYDUS = `oci:${fixture('nydus-oci/index')}:index`;
const TAME = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
const NASTY = `oci:${fixture('oci/nasty-mini')}:nasty-mini`;
const rafs = (variant: string): string => `rafs:${fixture('rafs', variant, 'bootstrap')}`;
const platform = 'linux/amd64';

async function differences(a: string, b: string, options: DiffOptions = {}): Promise<Difference[]> {
  const found: Difference[] = [];
  for await (const difference of diff(a, b, { platform, ...options })) found.push(difference);
  return found;
}

const keyOf = (row: Pick<Row, 'path' | 'path_b64'>): string => row.path ?? `base64:${row.path_b64}`;

/** What two truths differ in, told by a few lines of its own. */
function expected(a: readonly Row[], b: readonly Row[]): string[] {
  const from = new Map(a.map((row) => [keyOf(row), row]));
  const to = new Map(b.map((row) => [keyOf(row), row]));
  const namesOf = (rows: readonly Row[], row: Row): string =>
    row.link_group === undefined
      ? ''
      : rows
          .filter((other) => other.link_group === row.link_group)
          .map(keyOf)
          .sort()
          .join();
  const text = (row: Row): string => {
    const { type, mode, uid, gid, size, rdev, target, target_b64, xattrs, sha256 } = row;
    return JSON.stringify([
      type,
      mode,
      uid,
      gid,
      size,
      rdev,
      target,
      target_b64,
      Object.entries(xattrs ?? {}).sort(),
      sha256,
    ]);
  };
  return [...new Set([...from.keys(), ...to.keys()])].flatMap((key) => {
    const [left, right] = [from.get(key), to.get(key)];
    if (left === undefined) return [`added ${key}`];
    if (right === undefined) return [`removed ${key}`];
    return text(left) === text(right) && namesOf(a, left) === namesOf(b, right) ? [] : [`changed ${key}`];
  });
}

const told = (found: readonly Difference[]): string[] =>
  found.map((difference) => `${difference.kind} ${keyOf(difference)}`);

describe('diff', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-diff-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it('finds nothing between forms of one image', async () => {
    expect(await differences(`${NASTY}-gzip`, `${NASTY}-zstd-multi`)).toEqual([]);
    // nydus-image keeps whole seconds of ustar headers.
    expect(await differences(TAME, NYDUS, { ignore: ['mtime'] })).toEqual([]);
    const times = await differences(TAME, NYDUS);
    expect(times.length).toBeGreaterThan(0);
    expect(new Set(times.flatMap(({ changes }) => changes.map(({ field }) => field)))).toEqual(new Set(['mtime']));
  });

  it.each([
    ['two lazy images', rafs('default'), 'tame-mini.only-layer1', rafs('merged'), 'tame-mini'],
    ['an ordinary and a lazy image', `${NASTY}-gzip`, 'nasty-mini', rafs('merged'), 'tame-mini'],
    ['a lazy and an ordinary image', rafs('default'), 'tame-mini.only-layer1', TAME, 'tame-mini'],
  ])('tells what the truths of %s differ in', async (_, a, truthA, b, truthB) => {
    const wanted = expected(
      readRows(fixture(`truth/${truthA}.merged.jsonl`)),
      readRows(fixture(`truth/${truthB}.merged.jsonl`)),
    );
    expect(wanted.length).toBeGreaterThan(3);
    const found = await differences(a, b, { ignore: ['mtime'] });
    expect(told(found).sort()).toEqual(wanted.sort());
    // And the other way round.
    const swap: Readonly<Record<string, string>> = { added: 'removed', removed: 'added', changed: 'changed' };
    const back = await differences(b, a, { ignore: ['mtime'] });
    expect(told(back)).toEqual(told(found).map((line) => line.replace(/^\w+/, (kind) => swap[kind]!)));
  });

  it('compares other chunkings and digesters by reading, equal ones without', async () => {
    expect(await differences(rafs('default'), rafs('chunk-4k'))).toEqual([]);
    expect(await differences(rafs('default'), rafs('sha256'))).toEqual([]);
    // No blobs at all: whoever read one would fail.
    cpSync(fixture('rafs/default/bootstrap'), join(dir, 'bootstrap'));
    expect(await differences(rafs('default'), `rafs:${join(dir, 'bootstrap')}`)).toEqual([]);
    await expect(differences(rafs('chunk-4k'), `rafs:${join(dir, 'bootstrap')}`)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('says from what to what each field changed', async () => {
    const found = await differences(rafs('default'), rafs('merged'), { ignore: ['mtime'] });
    const [from, to] = ['only-layer1.', ''].map((kind) => {
      const rows = readRows(fixture(`truth/tame-mini.${kind}merged.jsonl`));
      return new Map(rows.map((row) => [keyOf(row), row]));
    }) as [Map<string, Row>, Map<string, Row>];
    let checked = 0;
    for (const { kind, changes, ...named } of found) {
      expect(changes.length > 0).toBe(kind === 'changed');
      for (const { field, from: before, to: after } of changes) {
        if (!['type', 'mode', 'uid', 'gid', 'size', 'target'].includes(field)) continue;
        const [left, right] = [from.get(keyOf(named))!, to.get(keyOf(named))!];
        expect([before, after]).toEqual([left[field as 'size'] ?? null, right[field as 'size'] ?? null]);
        checked++;
      }
    }
    expect(checked).toBeGreaterThan(1);
  });

  it('leaves out what it is told to', async () => {
    const ignore = ['mtime', 'owner', 'mode', 'xattrs', 'links'] as const;
    const found = await differences(rafs('default'), rafs('merged'), { ignore });
    const fields = new Set(found.flatMap(({ changes }) => changes.map(({ field }) => field as string)));
    for (const field of ['mtime', 'uid', 'gid', 'mode', 'xattrs', 'links']) expect(fields).not.toContain(field);
    expect(told(found).length).toBeGreaterThan(0);
  });

  it('compares configs, annotations and layers', async () => {
    expect(await diffConfig(TAME, TAME, { platform })).toEqual([]);
    const lazy = await diffConfig(TAME, NYDUS, { platform });
    expect(lazy.map(({ path }) => path[0])).toContain('layers');
    // An image with another environment: nothing else is told.
    const layout = join(dir, 'layout');
    cpSync(fixture('oci/tame-mini'), layout, { recursive: true });
    const changed = editConfig(layout, 'tame-mini-gzip');
    const found = await diffConfig(TAME, `oci:${layout}:tame-mini-gzip`, { platform });
    expect(found).toEqual([{ path: ['config', 'config', 'Env'], from: changed.before ?? null, to: ['A=b'] }]);
    expect(await differences(TAME, `oci:${layout}:tame-mini-gzip`)).toEqual([]);
  });
});

/** Gives the image of `ref` another environment, in a layout that is the test's own. */
function editConfig(layout: string, ref: string): { before: unknown } {
  const blob = (digest: string): string => join(layout, 'blobs', 'sha256', digest.slice(7));
  const put = (value: unknown): { digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = `sha256:${sha256(bytes)}`;
    writeFileSync(blob(digest), bytes);
    return { digest, size: bytes.length };
  };
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const entry = index.manifests.find(
    (found: { annotations: Record<string, string> }) => found.annotations['org.opencontainers.image.ref.name'] === ref,
  );
  const manifest = JSON.parse(readFileSync(blob(entry.digest), 'utf8'));
  const config = JSON.parse(readFileSync(blob(manifest.config.digest), 'utf8'));
  const before = config.config?.Env;
  config.config = { ...config.config, Env: ['A=b'] };
  Object.assign(manifest.config, put(config));
  Object.assign(entry, put(manifest));
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  return { before };
}
