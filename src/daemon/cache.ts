/**
 * The folders of the cache: one per blob with its shared store, in it one per device with the device's own store and its
 * chunk table.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../make-directory.ts';

/** How the names of folders on their way out begin; a crash leaves them for the next start. */
const TRASH = '.trash';

/** A device's name is `<blob hex>-<table key>`. */
export interface DeviceName {
  readonly blob: string;
  readonly table: string;
}

export const formatDevice = ({ blob, table }: DeviceName): string => `${blob}-${table}`;

export function parseDevice(name: string): DeviceName {
  const [blob = '', table = ''] = name.split('-');
  return { blob, table };
}

/** The name of a device: blob, layout of the address space, chunks, and units. */
export function deviceName(blob: string, size: number, table: Uint8Array, units: Uint8Array | null): string {
  // 128 bits, so that no image can be made to meet another's.
  const hash = createHash('sha256').update(table).update(String(size));
  if (units !== null) hash.update('units').update(units);
  return formatDevice({ blob, table: hash.digest('hex').slice(0, 32) });
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
