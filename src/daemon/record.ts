/** What is attached, as files `images/<id>.json`: how a restarted daemon finds its images again. */
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { FormatError, LacunaError } from '../errors.ts';
import type { AttachRequest } from './api.ts';

const registry = z.object({
  host: z.string().min(1),
  repository: z.string().min(1),
  plainHttp: z.boolean().nullable().exactOptional(),
  ca: z.string().exactOptional(),
});
const place = z.object({ path: z.string().min(1) });
const source = z.union([z.object({ registry }), z.object({ directory: place }), z.object({ layout: place })]);

const record = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
  bootstrap: z.string().refine(isAbsolute, 'not absolute'),
  sources: z.array(source).min(1),
  blobIds: z.array(z.string().regex(/^[0-9a-f]{64}$/)),
  /** Device names in blob table order; known before the bootstrap is read again, so that their caches are kept. */
  devices: z.array(z.string()),
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

/** Every record of the folder. One that cannot be read is an error: its caches must not be swept away. */
export async function readRecords(folder: string): Promise<ImageRecord[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  return await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      const result = record.safeParse(JSON.parse(await readFile(path, 'utf8')));
      if (result.success) return result.data;
      const [issue] = result.error.issues;
      throw new FormatError(issue?.path.join('.') ?? 'record', issue?.message ?? 'invalid', {
        subject: path,
        hint: 'the file was written by another version, or changed by hand; remove it to forget the image',
      });
    }),
  );
}

/** Replaces the record in one step. */
export async function writeRecord(folder: string, value: ImageRecord): Promise<void> {
  const path = join(folder, `${value.id}.json`);
  await writeFile(`${path}.tmp`, JSON.stringify(value, null, 1), { mode: 0o600, flush: true });
  await rename(`${path}.tmp`, path);
}

export async function removeRecord(folder: string, id: string): Promise<void> {
  await rm(join(folder, `${id}.json`), { force: true });
}
