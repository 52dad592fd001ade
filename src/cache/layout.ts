/**
 * The folders of the cache: one per blob with its shared store, in it one per chunk table, with that and the own store of
 * the devices that have it.
 */
import { createHash, randomInt, randomUUID } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../make-directory.ts';

/** How the names of folders on their way out begin; a crash leaves them for the next start. */
const TRASH = '.trash';

/** A device's name is `<blob hex>-<table key>-<node, hex>`. Each image has devices of its own; equal tables share folders. */
export interface DeviceName {
  readonly blob: string;
  readonly table: string;
  /** The kernel's number of the device, 3 or more and below 2^53. */
  readonly node: number;
}

/** Hex digits of a node in a name. */
const NODE_DIGITS = 13;

export const formatDevice = ({ blob, table, node }: DeviceName): string =>
  `${blob}-${table}-${node.toString(16).padStart(NODE_DIGITS, '0')}`;

export function parseDevice(name: string): DeviceName {
  const [blob = '', table = '', node = ''] = name.split('-');
  return { blob, table, node: Number.parseInt(node, 16) };
}

/** Lower nodes are taken: the root, and offsets in its listing. */
const FIRST_NODE = 3;
/** What randomInt can give, at most. */
const MAX_RANDOM = 2 ** 48 - 1;

/**
 * A name for a new device with these tables, beside those of `others`. Its node is drawn at random, so that no image can
 * choose another's, nor get one that the kernel may still know of a device that is gone.
 */
export function newName(tables: string, others: Iterable<string>): string {
  const taken = new Set([...others].map((name) => parseDevice(name).node));
  const { blob, table } = parseDevice(tables);
  for (;;) {
    const node = FIRST_NODE + randomInt(MAX_RANDOM);
    if (!taken.has(node)) return formatDevice({ blob, table, node });
  }
}

/** What a device's tables are called, `<blob hex>-<table key>`: layout of the address space, chunks, and units. */
export function tablesName(blob: string, size: number, table: Uint8Array, units: Uint8Array | null): string {
  // 128 bits, so that no image can be made to meet another's.
  const hash = createHash('sha256').update(table).update(String(size));
  if (units !== null) hash.update('units').update(units);
  return `${blob}-${hash.digest('hex').slice(0, 32)}`;
}

/** The folder of the device `name`, inside its blob's. */
export function folderOf(cache: string, name: string): string {
  const { blob, table } = parseDevice(name);
  return join(cache, blob, table);
}

/** Makes the folders of a device and says where they are. */
export async function makeStores(cache: string, name: string) {
  const ownDir = folderOf(cache, name);
  const sharedDir = dirname(ownDir);
  await makeDirectory(ownDir, 0o700);
  return { sharedDir, ownDir };
}

/** Removes every folder that none of the devices in `kept` needs, and what an earlier removal left. */
export async function sweep(cache: string, kept: Iterable<string>): Promise<void> {
  const wanted = new Map<string, Set<string>>();
  for (const name of kept) {
    const { blob, table } = parseDevice(name);
    wanted.set(blob, (wanted.get(blob) ?? new Set()).add(table));
  }
  const trash: string[] = [];
  // Renamed first: what is half removed must not look like a cache. It stays in its folder, since a full disk has no room
  // for another one.
  const discard = async (path: string): Promise<void> => {
    const doomed = join(cache, `${TRASH}-${randomUUID()}`);
    await rename(path, doomed);
    trash.push(doomed);
  };
  for (const blob of await readdir(cache)) {
    if (blob.startsWith(TRASH)) {
      trash.push(join(cache, blob));
      continue;
    }
    const tables = wanted.get(blob);
    if (tables === undefined) {
      await discard(join(cache, blob));
      continue;
    }
    for (const entry of await readdir(join(cache, blob), { withFileTypes: true })) {
      if (entry.isDirectory() && !tables.has(entry.name)) await discard(join(cache, blob, entry.name));
    }
  }
  for (const path of trash) await rm(path, { recursive: true, force: true });
}
