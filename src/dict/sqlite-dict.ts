/**
 * A dictionary that grows: one SQLite file, which CI keeps between runs. Nothing of it is held in memory; every growth is
 * one durable transaction, so a killed process loses nothing and leaves nothing half done. Several processes may use it at
 * once: readers see it as it was when they began.
 */
import type { Database, Statement } from 'better-sqlite3';
import { DIGEST_SIZE } from '../blob/table.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import { sizeOfRegular, whenMissing } from '../open-file.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import {
  type ChunkKind,
  type DictBlob,
  type DictGrowth,
  type GrowingDict,
  isUsableBlob,
  isUsableChunk,
  type NewBlob,
} from './dict.ts';
import { APPLICATION_ID, BLOB_COLUMNS, type BlobRow, blobOf, rowOf, SCHEMA, SCHEMA_VERSION } from './schema.ts';

/** How long a writer waits for another one, in milliseconds: an image of a million chunks is added in some seconds. */
const BUSY_TIMEOUT = 60_000;

interface ChunkRow {
  readonly id: string;
  readonly compressor: number;
  readonly place: number;
  readonly uncompressed_offset: number;
  readonly uncompressed_size: number;
  readonly compressed_offset: number;
  readonly compressed_size: number;
  readonly crc32c: number | null;
}

/** The contents of a chunk dictionary. */
export interface DictStat {
  /** Number of blobs. */
  readonly blobs: number;
  /** Number of distinct chunks. */
  readonly chunks: number;
  /** Bytes of the blobs in their registries, and plain bytes of the chunks. */
  readonly blobBytes: number;
  /** Plain bytes of the chunks. */
  readonly chunkBytes: number;
  /** The places where blobs can be copied from, and how many blobs each has. */
  readonly places: ReadonlyArray<{ readonly place: string; readonly blobs: number }>;
}

export class SqliteDict implements GrowingDict {
  readonly subject: string;
  readonly #db: Database;
  readonly #find: Statement<[Buffer, number, number], ChunkRow>;
  #isFrozen = false;

  private constructor(db: Database, path: string) {
    this.subject = path;
    this.#db = db;
    this.#find = db.prepare(`
      SELECT b.id, c.compressor, c.place, c.uncompressed_offset, c.uncompressed_size, c.compressed_offset,
        c.compressed_size, c.crc32c
      FROM chunks c JOIN blobs b ON b.number = c.blob
      WHERE c.digest = ? AND b.digester = ? AND b.chunk_size = ? ORDER BY c.blob, c.place`);
  }

  /**
   * Opens the database, or makes it. UNSUPPORTED without better-sqlite3, FORMAT for a file that is something else or of
   * another version, NOT_FOUND when it is missing and not to be made.
   */
  static async open(path: string, options: { readonly create?: boolean } = {}): Promise<SqliteDict> {
    // The database is opened on this thread, which a pipe would block.
    await sizeOfRegular(path, { op: 'use dictionary' }).catch(whenMissing(0));
    const Sqlite = await loadSqlite();
    return guarded(path, () => {
      const db = new Sqlite(path, { fileMustExist: options.create === false, timeout: BUSY_TIMEOUT });
      try {
        db.pragma('journal_mode = WAL');
        db.pragma('synchronous = FULL');
        db.pragma('foreign_keys = ON');
        // Two that make it at once: the second finds it made.
        db.transaction(() => ensureSchema(db, path)).immediate();
        return new SqliteDict(db, path);
      } catch (error) {
        db.close();
        throw error;
      }
    });
  }

  /** Reads see one snapshot of the database from now on until the next {@link add}. */
  freeze(): void {
    if (this.#isFrozen) return;
    guarded(this.subject, () => {
      this.#db.exec('BEGIN');
      this.#db.prepare('SELECT count(*) FROM places').get();
    });
    this.#isFrozen = true;
  }

  lookup(digests: Buffer, kind: ChunkKind): ReadonlyMap<ByteString, readonly FileChunk[]> {
    return guarded(this.subject, () => {
      const found = new Map<ByteString, readonly FileChunk[]>();
      for (let at = 0; at < digests.length; at += DIGEST_SIZE) {
        const digest = digests.subarray(at, at + DIGEST_SIZE);
        const rows = this.#find.all(digest, kind.digester, kind.chunkSize);
        if (rows.length > 0)
          found.set(
            byteString(digest),
            rows.map((row) => chunkOf(row, Buffer.from(digest), kind)),
          );
      }
      return found;
    });
  }

  blob(id: string): DictBlob | null {
    return guarded(this.subject, () => {
      const row = this.#row(id);
      if (row === null) return null;
      const places = this.#db
        .prepare<[number], { place: string }>('SELECT place FROM places WHERE blob = ? ORDER BY rowid')
        .all(row.number);
      return { blob: blobOf(row), size: row.size, meta: row.meta, places: places.map(({ place }) => place) };
    });
  }

  add(blobs: readonly NewBlob[]): DictGrowth {
    if (this.#isFrozen) this.#db.exec('COMMIT');
    this.#isFrozen = false;
    return guarded(this.subject, () => this.#db.transaction(() => this.#addAll(blobs)).immediate());
  }

  stat(): DictStat {
    return guarded(this.subject, () => {
      const one = (sql: string) => this.#db.prepare<[], { count: number; bytes: number }>(sql).get()!;
      const blobs = one('SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes FROM blobs');
      const chunks = one('SELECT count(*) AS count, coalesce(sum(uncompressed_size), 0) AS bytes FROM chunks');
      const places = this.#db
        .prepare<[], { place: string; blobs: number }>(
          'SELECT place, count(*) AS blobs FROM places GROUP BY place ORDER BY place',
        )
        .all();
      return {
        blobs: blobs.count,
        chunks: chunks.count,
        blobBytes: blobs.bytes,
        chunkBytes: chunks.bytes,
        places,
      };
    });
  }

  /** Ids of all blobs, in the order in which they came. */
  ids(): string[] {
    return guarded(this.subject, () =>
      this.#db
        .prepare<[], { id: string }>('SELECT id FROM blobs ORDER BY number')
        .all()
        .map(({ id }) => id),
    );
  }

  /** Forgets that a blob is in a place, and the blob with its chunks when that was the last one. */
  forget(id: string, place: string): void {
    guarded(this.subject, () =>
      this.#db
        .transaction(() => {
          const row = this.#row(id);
          if (row === null) return;
          this.#db.prepare('DELETE FROM places WHERE blob = ? AND place = ?').run(row.number, place);
          this.#db
            .prepare('DELETE FROM blobs WHERE number = ? AND NOT EXISTS (SELECT 1 FROM places WHERE blob = ?)')
            .run(row.number, row.number);
        })
        .immediate(),
    );
  }

  [Symbol.dispose](): void {
    // The last one to close it folds the log into the file, so that the file alone is the whole database.
    this.#db.close();
  }

  #row(id: string): BlobRow | null {
    return this.#db.prepare<[string], BlobRow>('SELECT * FROM blobs WHERE id = ?').get(id) ?? null;
  }

  #addAll(blobs: readonly NewBlob[]): DictGrowth {
    const db = this.#db;
    const names = BLOB_COLUMNS.join(', ');
    const insertBlob = db.prepare(
      `INSERT INTO blobs (${names}) VALUES (${BLOB_COLUMNS.map((column) => `:${column}`).join(', ')})`,
    );
    const insertPlace = db.prepare('INSERT OR IGNORE INTO places (blob, place) VALUES (?, ?)');
    const insertChunk = db.prepare('INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
    const growth = { blobs: 0, chunks: 0, places: 0 };
    for (const added of blobs) {
      // The chunks of a blob without a place are useless.
      if (!isUsableBlob(added.blob) || added.places.length === 0) continue;
      const before = this.#row(added.blob.id);
      if (before !== null) checkSame(before, added.blob, this.subject);
      const number = before?.number ?? Number(insertBlob.run(rowOf(added)).lastInsertRowid);
      const seen = added.places.reduce((sum, place) => sum + insertPlace.run(number, place).changes, 0);
      if (before === null) growth.blobs += 1;
      else growth.places += seen;
      for (const chunk of added.chunks) {
        if (!isUsableChunk(chunk)) continue;
        const { uncompressedOffset, uncompressedSize, compressedOffset, compressedSize, compressor, crc32c } = chunk;
        growth.chunks += insertChunk.run(
          ...[chunk.digest, number, chunk.index, compressor, uncompressedOffset, uncompressedSize],
          ...[compressedOffset, compressedSize, crc32c],
        ).changes;
      }
    }
    return growth;
  }
}

function chunkOf(row: ChunkRow, digest: Buffer, kind: ChunkKind): FileChunk {
  return {
    uncompressedOffset: row.uncompressed_offset,
    uncompressedSize: row.uncompressed_size,
    compressedOffset: row.compressed_offset,
    compressedSize: row.compressed_size,
    compressor: row.compressor as Compressor,
    digester: kind.digester as Digester,
    digest,
    blob: row.id,
    index: row.place,
    crc32c: row.crc32c,
    within: null,
  };
}

/**
 * The fields that say where chunks are. Merged images and images of one layer differ in features and table of
 * contents.
 */
const ADDRESSING = [
  ...(['chunkSize', 'compressor', 'digester', 'uncompressedSize'] as const),
  ...(['ciCompressor', 'ciOffset', 'ciCompressedSize', 'ciUncompressedSize'] as const),
] as const;

/** Two images describe one blob differently: one of them is wrong. */
function checkSame(before: BlobRow, blob: RafsBlob, subject: string): void {
  const existing = blobOf(before);
  const differs = ADDRESSING.filter((field) => existing[field] !== blob[field]);
  if (differs.length === 0) return;
  throw new LacunaError('PRECONDITION', `blob ${blob.id} is in the dictionary with another ${differs.join(', ')}`, {
    op: 'add to dictionary',
    subject,
    hint: 'one of two images is wrong about it: add the right one to a new dictionary',
  });
}

function ensureSchema(db: Database, path: string): void {
  const version = db.pragma('user_version', { simple: true });
  const application = db.pragma('application_id', { simple: true });
  if (version === 0 && application === 0 && isEmpty(db)) db.exec(SCHEMA);
  else if (application !== APPLICATION_ID) {
    throw new LacunaError('FORMAT', 'the database is not a chunk dictionary', { op: 'open dictionary', subject: path });
  } else if (version !== SCHEMA_VERSION) {
    throw new LacunaError('FORMAT', `chunk dictionary of version ${version} (supported: ${SCHEMA_VERSION})`, {
      op: 'open dictionary',
      subject: path,
      hint: 'it was made by another version of Lacuna; use that one, or begin a new file',
    });
  }
}

const isEmpty = (db: Database): boolean => db.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined;

/** SQLite's error codes as ours. */
function guarded<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const about = { op: 'use dictionary', subject: path, cause: error };
    // better-sqlite3 looks for the directory itself.
    if (error instanceof TypeError) throw new LacunaError('NOT_FOUND', error.message, about);
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!code.startsWith('SQLITE_')) throw error;
    const text = (error as Error).message;
    if (code.startsWith('SQLITE_BUSY'))
      throw new LacunaError('LOCKED', 'another process is writing to the dictionary', about);
    if (code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')) throw new LacunaError('FORMAT', text, about);
    if (code.startsWith('SQLITE_CANTOPEN')) throw new LacunaError('NOT_FOUND', text, about);
    if (/^SQLITE_(FULL|IOERR|READONLY|PERM|NOMEM)/.test(code)) throw new LacunaError('SYSTEM', text, about);
    throw toLacunaError(error, about);
  }
}

async function loadSqlite(): Promise<typeof import('better-sqlite3')> {
  try {
    return (await import('better-sqlite3')).default;
  } catch (cause) {
    throw new LacunaError('UNSUPPORTED', 'a sqlite: dictionary needs better-sqlite3, which is not installed', {
      op: 'open dictionary',
      hint: 'npm install better-sqlite3 (needs a C++ compiler where there is no prebuilt binary)',
      cause,
    });
  }
}
