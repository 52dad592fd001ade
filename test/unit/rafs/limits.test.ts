/** What the documents list is what there is. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkout } from '#cache';
import { MAX_CHUNK_SIZE, MAX_UNIT_SIZE } from '../../../src/blob/table.ts';
import { MAX_SPARSE_CHUNKS } from '../../../src/convert/assembly.ts';
import { MAX_READ_HEAP, MAX_READ_SECONDS, MAX_WAIT_SECONDS } from '../../../src/daemon/limits.ts';
import { MAX_SOURCES } from '../../../src/daemon/record.ts';
import { MAX_READAHEAD } from '../../../src/fetch/lane.ts';
import * as limits from '../../../src/formats/rafs/limits.ts';
import { MAX_MANIFEST_SIZE } from '../../../src/image/manifest.ts';
import { MAX_KINDS } from '../../../src/observe/limited-log.ts';
import { MAX_LOG_FILE } from '../../../src/observe/log-file.ts';
import { MAX_LOOKUPS, MAX_REGISTRY_LOOKUPS } from '../../../src/registry/http/lookups.ts';
import { MAX_REDIRECTS } from '../../../src/registry/http/redirect.ts';
import { MAX_ERROR_BODY } from '../../../src/registry/http/response.ts';
import { MAX_ANNOUNCED } from '../../../src/snapshotter/pulls.ts';
import { MAX_TREE_MEMORY } from '../../../src/tree/budget.ts';
import { MAX_DEPTH, MAX_NAME, MAX_PATH } from '../../../src/tree/path.ts';
import { MAX_LINK_COMPONENTS } from '../../../src/tree/resolve.ts';
import { MAX_SPARSE_PARTS, MAX_SPARSE_SIZE } from '../../../src/tree/sparse.ts';
import { DEFAULT_MAX_PAX } from '../../../src/tree/tar.ts';
import { fixture } from '../../kit/layers.ts';

const SIZES: ReadonlyMap<string, number> = new Map([
  ['', 1],
  [' KiB', 2 ** 10],
  [' MiB', 2 ** 20],
  [' TiB', 2 ** 40],
]);

/** Of the native part. */
function maxWaiting(): number {
  const source = readFileSync(join(checkout, 'native/blobfs/src/parked.rs'), 'utf8');
  const [, number, shift] = /const MAX_WAITING: usize = (\d+) << (\d+);/.exec(source)!;
  return Number(number) << Number(shift);
}

it('docs/limits.md lists every limit with its value', () => {
  const tar = {
    DEFAULT_MAX_PAX,
    MAX_SPARSE_PARTS,
    MAX_SPARSE_SIZE,
    MAX_SPARSE_CHUNKS,
    MAX_TREE_MEMORY,
    MAX_LINK_COMPONENTS,
  };
  const daemon = {
    MAX_WAIT_SECONDS,
    MAX_READ_SECONDS,
    MAX_READ_HEAP,
    MAX_READAHEAD,
    MAX_SOURCES,
    MAX_WAITING: maxWaiting(),
  };
  const answers = { MAX_REDIRECTS, MAX_ERROR_BODY, MAX_LOOKUPS, MAX_REGISTRY_LOOKUPS };
  const kept = { MAX_KINDS, MAX_LOG_FILE, MAX_ANNOUNCED };
  const others = {
    ...{ MAX_CHUNK_SIZE, MAX_UNIT_SIZE, MAX_MANIFEST_SIZE, MAX_DEPTH, MAX_NAME, MAX_PATH },
    ...{ ...tar, ...daemon, ...answers, ...kept },
  };
  const text = readFileSync(join(checkout, 'docs/limits.md'), 'utf8');
  const listed = [...text.matchAll(/^\| `(\w+)` \| (\d+)( [KMT]iB)? \|/gm)].map(([, name, number, unit]) => {
    return [name!, Number(number) * SIZES.get(unit ?? '')!] as const;
  });
  expect(Object.fromEntries(listed)).toEqual({ ...limits, ...others });
});

it('docs/rafs-variants.md has a row for every variant that there is a fixture of', () => {
  const text = readFileSync(join(checkout, 'docs/rafs-variants.md'), 'utf8');
  const listed = [...text.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name!);
  expect(listed.sort()).toEqual(readdirSync(fixture('rafs')).sort());
});
