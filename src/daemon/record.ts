/**
 * What is attached, as files `images/<id>.json`: how a restarted daemon finds its images again.
 *
 * Checked by hand: readers wait while a daemon that takes over reads its records, and a schema library takes a sixth of
 * the half second that this may last.
 */
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { FormatError, LacunaError } from '../errors.ts';
import type { AttachRequest, RegistrySource } from './api.ts';

/** 2: devices of one image alone, whose names have their nodes in them. */
const VERSION = 2;

/** A device of the image. Its chunk table lies in the cache, see `view.ts`. */
export interface RecordedDevice {
  /** `<blob hex>-<table key>-<node, hex>` */
  readonly name: string;
  /** Bytes of the device file. */
  readonly size: number;
  /** Bytes of the blob as far as they are used. */
  readonly storedSize: number;
}

export interface ImageRecord {
  readonly version: typeof VERSION;
  readonly id: string;
  readonly bootstrap: string;
  readonly sources: readonly (
    | { readonly registry: RegistrySource }
    | { readonly directory: { readonly path: string } }
    | { readonly layout: { readonly path: string } }
  )[];
  readonly blobIds: readonly string[];
  /** In blob table order. */
  readonly devices: readonly RecordedDevice[];
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const HEX_DIGEST = /^[0-9a-f]{64}$/;
const DEVICE_NAME = /^[0-9a-f]{64}-[0-9a-f]{32}-[0-9a-f]{13}$/;

/** Sources of an image: each may have to be tried before a read is given up. */
export const MAX_SOURCES = 16;
const isPath = (text: string): boolean => isAbsolute(text) && !text.includes('\0');

/** Beside a record: which bootstrap was checked. */
const CHECKED = '.checked';
/** A record that is being written. */
const TEMPORARY = '.json.tmp';

/** Tells which field is wrong, and how. */
type Complain = (field: string, problem: string) => Error;

/** A checked request; USAGE names the field. gRPC leaves unset alternatives of `oneof` out. */
export function recordOf(request: AttachRequest): ImageRecord {
  const { id, bootstrap, sources, blobIds } = request;
  return checked(
    { version: VERSION, id, bootstrap, sources, blobIds: blobIds ?? [], devices: [] },
    (field, problem) => new LacunaError('USAGE', `${field} ${problem}`, { op: 'attach', subject: String(id) }),
  );
}

/**
 * Every record of the folder. One that cannot be read is an error: its caches must not be swept away. What a death in
 * the middle of writing one left is removed.
 */
export async function readRecords(folder: string): Promise<ImageRecord[]> {
  const names = (await readdir(folder)).sort();
  const isLeft = (name: string): boolean =>
    name.endsWith(TEMPORARY) || (name.endsWith(CHECKED) && !names.includes(name.replace(CHECKED, '.json')));
  for (const name of names.filter(isLeft)) await rm(join(folder, name), { force: true });
  return await Promise.all(names.filter((name) => name.endsWith('.json')).map((name) => readRecord(folder, name)));
}

async function readRecord(folder: string, name: string): Promise<ImageRecord> {
  const path = join(folder, name);
  const complain: Complain = (field, problem) =>
    new FormatError(field, problem, {
      subject: path,
      hint: 'the file was written by another version, or changed by hand; remove it to forget the image',
    });
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw error instanceof SyntaxError ? complain('record', 'is no JSON') : error;
  }
  const record = checked(value, complain);
  // Detaching would remove another file, and the image come back.
  if (`${record.id}.json` !== name) throw complain('id', 'is not that of the file');
  return record;
}

/** Replaces the record in one step. */
export async function writeRecord(folder: string, value: ImageRecord): Promise<void> {
  const temporary = join(folder, `${value.id}${TEMPORARY}`);
  await writeFile(temporary, JSON.stringify(value, null, 1), { mode: 0o600, flush: true });
  await rename(temporary, join(folder, `${value.id}.json`));
}

export async function removeRecord(folder: string, id: string): Promise<void> {
  await rm(join(folder, `${id}.json`), { force: true });
  await rm(verdictPath(folder, id), { force: true });
}

/** Where it is remembered that the bootstrap of an image was checked. */
export const verdictPath = (folder: string, id: string): string => join(folder, `${id}${CHECKED}`);

function checked(value: unknown, complain: Complain): ImageRecord {
  const fields = objectOf(value, 'record', complain);
  if (fields.version !== VERSION) throw complain('version', `must be ${VERSION}`);
  const text = (field: string, found: unknown, isGood: (text: string) => boolean, what: string): string => {
    if (typeof found === 'string' && isGood(found)) return found;
    throw complain(field, `must be ${what}`);
  };
  const list = <T>(field: string, found: unknown, item: (value: unknown, name: string) => T): T[] => {
    if (!Array.isArray(found)) throw complain(field, 'must be a list');
    return found.map((entry, index) => item(entry, `${field}.${index}`));
  };
  const size = (field: string, found: unknown): number => {
    if (Number.isSafeInteger(found) && (found as number) >= 0) return found as number;
    throw complain(field, 'must be a size in bytes');
  };
  const record: ImageRecord = {
    version: VERSION,
    id: text('id', fields.id, (id) => ID.test(id), 'letters, digits, `.`, `_` and `-`, at most 128'),
    bootstrap: text('bootstrap', fields.bootstrap, isPath, 'an absolute path'),
    sources: list('sources', fields.sources, (source, name) => sourceOf(source, name, complain)),
    blobIds: list('blobIds', fields.blobIds, (id, name) => text(name, id, (hex) => HEX_DIGEST.test(hex), 'hex sha256')),
    devices: list('devices', fields.devices, (device, field) => {
      const { name, size: bytes, storedSize } = objectOf(device, field, complain);
      return {
        name: text(`${field}.name`, name, (found) => DEVICE_NAME.test(found), 'a device name'),
        size: size(`${field}.size`, bytes),
        storedSize: size(`${field}.storedSize`, storedSize),
      };
    }),
  };
  if (record.sources.length === 0) throw complain('sources', 'must not be empty');
  if (record.sources.length > MAX_SOURCES) throw complain('sources', `must be at most ${MAX_SOURCES}`);
  return record;
}

function sourceOf(value: unknown, name: string, complain: Complain): ImageRecord['sources'][number] {
  const { registry, directory, layout } = objectOf(value, name, complain);
  const path = (found: unknown, kind: string): string => {
    const { path: text } = objectOf(found, `${name}.${kind}`, complain);
    if (typeof text === 'string' && isPath(text)) return text;
    throw complain(`${name}.${kind}.path`, 'must be an absolute path');
  };
  const given = [registry, directory, layout].filter((kind) => kind !== undefined && kind !== null);
  if (given.length !== 1) throw complain(name, 'must be one of registry, directory and layout');
  if (directory) return { directory: { path: path(directory, 'directory') } };
  if (layout) return { layout: { path: path(layout, 'layout') } };
  const { host, repository, plainHttp = null, ca = '' } = objectOf(registry, `${name}.registry`, complain);
  if (typeof host !== 'string' || host === '') throw complain(`${name}.registry.host`, 'must not be empty');
  if (typeof repository !== 'string' || repository === '') {
    throw complain(`${name}.registry.repository`, 'must not be empty');
  }
  if (typeof plainHttp !== 'boolean' && plainHttp !== null) {
    throw complain(`${name}.registry.plainHttp`, 'must be true, false or null');
  }
  if (typeof ca !== 'string' || (ca !== '' && !isPath(ca))) {
    throw complain(`${name}.registry.ca`, 'must be an absolute path, or empty');
  }
  return { registry: { host, repository, plainHttp, ca } };
}

function objectOf(value: unknown, name: string, complain: Complain): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw complain(name, 'must be an object');
}
