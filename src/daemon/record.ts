/**
 * The record of an attached image, and its validation.
 *
 * Validation uses no schema library: readers wait while a daemon that takes over reads its records, and such a library
 * takes a sixth of the half second that this may last.
 */
import { isAbsolute } from 'node:path';
import type { StoredDevice } from '../cache/device-tables.ts';
import { LacunaError } from '../errors.ts';
import type { AttachRequest, RegistrySource } from './api.ts';

/** Version 2: each device belongs to one image, and its name contains its node. Version 1 is read as well. */
const VERSION = 2;

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
  readonly devices: readonly StoredDevice[];
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const HEX_DIGEST = /^[0-9a-f]{64}$/;
const DEVICE_NAMES: Readonly<Record<number, RegExp>> = {
  1: /^[0-9a-f]{64}-[0-9a-f]{32}$/,
  [VERSION]: /^[0-9a-f]{64}-[0-9a-f]{32}-[0-9a-f]{13}$/,
};

/** Maximum sources of an image: each may have to be tried before a read fails. */
export const MAX_SOURCES = 16;
const isPath = (text: string): boolean => isAbsolute(text) && !text.includes('\0');

/** Makes the error for a wrong field. */
export type Complain = (field: string, problem: string) => Error;

/** A checked request; USAGE names the field. gRPC omits unset alternatives of a `oneof`. */
export function recordOf(request: AttachRequest): ImageRecord {
  const { id, bootstrap, sources, blobIds } = request;
  return checkRecord(
    { version: VERSION, id, bootstrap, sources, blobIds: blobIds ?? [], devices: [] },
    (field, problem) => new LacunaError('USAGE', `${field} ${problem}`, { op: 'attach', subject: String(id) }),
  );
}

/** Validates a record; one of version 1 keeps the names of its devices. */
export function checkRecord(value: unknown, complain: Complain): ImageRecord {
  const fields = objectOf(value, 'record', complain);
  const deviceName = DEVICE_NAMES[fields.version as number];
  if (deviceName === undefined) throw complain('version', `must be 1 or ${VERSION}`);
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
        name: text(`${field}.name`, name, (found) => deviceName.test(found), 'a device name'),
        size: size(`${field}.size`, bytes),
        storedSize: size(`${field}.storedSize`, storedSize),
      };
    }),
  };
  if (record.sources.length === 0) throw complain('sources', 'must not be empty');
  if (record.sources.length > MAX_SOURCES) throw complain('sources', `must have at most ${MAX_SOURCES} entries`);
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
