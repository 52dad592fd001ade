/**
 * The folders of the cache: one per blob with its shared store, and within it one per chunk table, with the table and the
 * store of the devices that use it.
 */
import { createHash, randomInt, randomUUID } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../make-directory.ts';

/** Prefix of folders that are being deleted; those that a crash leaves are deleted at the next start. */
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

/** Lower nodes are reserved for the root, and for offsets in its listing. */
const FIRST_NODE = 3;
/** Largest range of randomInt. */
const MAX_RANDOM = 2 ** 48 - 1;

/**
 * A name for a new device with these tables, different from `others`. Its node is random, so that no image can choose
 * another image's node, nor one that the kernel may still know of a removed device.
 */
export function newName(tables: string, others: Iterable<string>): string {
  const taken = new Set([...others].map((name) => parseDevice(name).node));
  const { blob, table } = parseDevice(tables);
  for (;;) {
    const node = FIRST_NODE + randomInt(MAX_RANDOM);
    if (!taken.has(node)) return formatDevice({ blob, table, node });
  }
}

/** Name of a device's tables, `<blob hex>-<table key>`. The key hashes the device's size, its chunks and its units. */
export function tablesName(blob: string, size: number, table: Uint8Array, units: Uint8Array | null): string {
  // 128 bits, so that no image can be made to collide with another one.
  const hash = createHash('sha256').update(table).update(String(size));
  if (units !== null) hash.update('units').update(units);
  return `${blob}-${hash.digest('hex').slice(0, 32)}`;
}

/** The folder of the device `name`, inside its blob's folder. */
export function folderOf(cache: string, name: string): string {
  const { blob, table } = parseDevice(name);
  return join(cache, blob, table);
}

/** Makes the folders of a device and returns their paths. */
export async function makeStores(cache: string, name: string) {
  const ownDir = folderOf(cache, name);
  const sharedDir = dirname(ownDir);
  await makeDirectory(ownDir, 0o700);
  return { sharedDir, ownDir };
}

/** Removes every folder that no device in `kept` needs, and the remains of an earlier removal. */
export async function sweep(cache: string, kept: Iterable<string>): Promise<void> {
  const needed = new Map<string, Set<string>>();
  for (const name of kept) {
    const { blob, table } = parseDevice(name);
    needed.set(blob, (needed.get(blob) ?? new Set()).add(table));
  }
  const trash: string[] = [];
  // The folder is renamed first: a half removed one must not look like a cache. It stays in the cache's folder, since a full
  // disk has no room for another folder.
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
    const tables = needed.get(blob);
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
