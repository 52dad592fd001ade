/** The records of the attached images, as files `images/<id>.json`, from which a restarted daemon attaches them again. */
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, type LacunaError, toLacunaError } from '../errors.ts';
import { type Complain, checkRecord, type ImageRecord } from './record.ts';

const RECORD = '.json';
/** Suffix of the file that records which bootstrap was checked. */
const CHECKED = '.checked';
/** Suffix of a record that is being written. */
const TEMPORARY = '.json.tmp';

const ANY_DEVICE_NAME = /\b[0-9a-f]{64}-[0-9a-f]{32}-[0-9a-f]{13}\b/g;

const HINT = 'attach the image again (for containerd: remove and pull it), or detach it to give up its cache';

/** A record that cannot be used. Its image can be detached, or attached again. */
interface DamagedRecord {
  readonly id: string;
  /** Names the file and its problem. */
  readonly error: LacunaError;
  /** Device names that the damaged file still contains. */
  readonly devices: readonly string[];
}

export interface Records {
  readonly good: readonly ImageRecord[];
  readonly damaged: readonly DamagedRecord[];
}

/** Reads every record of the folder. Removes files that an interrupted write left. */
export async function readRecords(folder: string): Promise<Records> {
  const names = (await readdir(folder)).sort();
  const isLeft = (name: string): boolean =>
    name.endsWith(TEMPORARY) || (name.endsWith(CHECKED) && !names.includes(name.replace(CHECKED, RECORD)));
  // A read-only disk does not keep the other records from being read.
  for (const name of names.filter(isLeft)) await rm(join(folder, name), { force: true }).catch(() => {});
  const records = await Promise.all(names.filter((name) => name.endsWith(RECORD)).map((name) => readOne(folder, name)));
  return {
    good: records.filter((one): one is ImageRecord => !('error' in one)),
    damaged: records.filter((one): one is DamagedRecord => 'error' in one),
  };
}

async function readOne(folder: string, name: string): Promise<ImageRecord | DamagedRecord> {
  const subject = join(folder, name);
  const id = name.slice(0, -RECORD.length);
  let text = '';
  try {
    text = await readFile(subject, 'utf8');
    return parseRecord(text, id, subject);
  } catch (cause) {
    const error = toLacunaError(cause, { op: 'read record', subject, hint: HINT });
    return { id, error, devices: text.match(ANY_DEVICE_NAME) ?? [] };
  }
}

function parseRecord(text: string, id: string, subject: string): ImageRecord {
  const complain: Complain = (field, problem) =>
    new FormatError(field, problem, { op: 'read record', subject, hint: HINT });
  const record = checkRecord(parseJson(text, complain), complain);
  // Detaching would remove another file, and a restart would attach the image again.
  if (record.id !== id) throw complain('id', 'does not match the name of the file');
  return record;
}

function parseJson(text: string, complain: Complain): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw complain('record', 'is not JSON');
  }
}

/** Replaces the record atomically. */
export async function writeRecord(folder: string, value: ImageRecord): Promise<void> {
  const temporary = join(folder, `${value.id}${TEMPORARY}`);
  await writeFile(temporary, JSON.stringify(value, null, 1), { mode: 0o600, flush: true });
  const path = join(folder, `${value.id}${RECORD}`);
  await rename(temporary, path).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EISDIR') throw error;
    // A damaged record may have become a directory.
    await rm(path, { recursive: true });
    await rename(temporary, path);
  });
}

export async function removeRecord(folder: string, id: string): Promise<void> {
  await rm(join(folder, `${id}${RECORD}`), { force: true, recursive: true });
  await rm(verdictPath(folder, id), { force: true });
}

/** Path of the file that records which bootstrap of an image was checked. */
export const verdictPath = (folder: string, id: string): string => join(folder, `${id}${CHECKED}`);
