/** What is attached, as files `images/<id>.json`: how a restarted daemon finds its images again. */
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { FormatError, LacunaError } from '../errors.ts';
import type { AttachRequest } from './api.ts';

const path = z.string().refine((text) => isAbsolute(text) && !text.includes('\0'), 'not an absolute path');
const registry = z.object({
  host: z.string().min(1),
  repository: z.string().min(1),
  plainHttp: z.boolean().nullable().exactOptional(),
  ca: z.union([z.literal(''), path]).exactOptional(),
});
const place = z.object({ path });
const source = z.union([z.object({ registry }), z.object({ directory: place }), z.object({ layout: place })]);

const record = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
  bootstrap: path,
  sources: z.array(source).min(1),
  blobIds: z.array(z.string().regex(/^[0-9a-f]{64}$/)),
  /** Device names in blob table order; known before the bootstrap is read again, so that their caches are kept. */
  devices: z.array(z.string().regex(/^[0-9a-f]{64}-[0-9a-f]+$/)),
});

export type ImageRecord = z.infer<typeof record>;

/** A checked request; USAGE names the field. gRPC leaves unset alternatives of `oneof` out. */
export function recordOf(request: AttachRequest): ImageRecord {
  const { id, bootstrap, sources, blobIds } = request;
  const result = record.safeParse({
    version: 1,
    id,
    bootstrap,
    sources: sources.map((it) => Object.fromEntries(Object.entries(it).filter(([, value]) => value != null))),
    blobIds: blobIds ?? [],
    devices: [],
  });
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new LacunaError('USAGE', `${issue?.path.join('.')}: ${issue?.message}`, { op: 'attach', subject: id });
}

/**
 * Every record of the folder. One that cannot be read is an error: its caches must not be swept away. What a death in
 * the middle of writing one left is removed.
 */
export async function readRecords(folder: string): Promise<ImageRecord[]> {
  const names = (await readdir(folder)).sort();
  for (const name of names) if (name.endsWith(TEMPORARY)) await rm(join(folder, name), { force: true });
  return await Promise.all(names.filter((name) => name.endsWith('.json')).map((name) => readRecord(folder, name)));
}

async function readRecord(folder: string, name: string): Promise<ImageRecord> {
  const subject = join(folder, name);
  const wrong = (field: string, problem: string): FormatError => {
    const hint = 'the file was written by another version, or changed by hand; remove it to forget the image';
    return new FormatError(field, problem, { op: 'read record', subject, hint });
  };
  let value: unknown;
  try {
    value = JSON.parse(await readFile(subject, 'utf8'));
  } catch (error) {
    throw error instanceof SyntaxError ? wrong('record', error.message) : error;
  }
  const result = record.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw wrong(issue?.path.join('.') || 'record', issue?.message ?? 'invalid');
  }
  // Detaching would remove another file, and the image come back.
  if (`${result.data.id}.json` !== name) throw wrong('id', `${result.data.id} is not the file's`);
  return result.data;
}

const TEMPORARY = '.json.tmp';

/** Replaces the record in one step. */
export async function writeRecord(folder: string, value: ImageRecord): Promise<void> {
  const temporary = join(folder, `${value.id}${TEMPORARY}`);
  await writeFile(temporary, JSON.stringify(value, null, 1), { mode: 0o600, flush: true });
  await rename(temporary, join(folder, `${value.id}.json`));
}

export async function removeRecord(folder: string, id: string): Promise<void> {
  await rm(join(folder, `${id}.json`), { force: true });
}
