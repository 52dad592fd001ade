/**
 * The snapshot records: an SQLite database, every change one durable transaction. They behave as containerd's own metadata
 * store (snapshots/storage/bolt.go): identifiers only grow, a commit renames and sets new times and labels, labels
 * without a value are dropped.
 */
import type { Database, Statement } from 'better-sqlite3';
import { LacunaError } from '../errors.ts';
import type { CommitAs } from './directories.ts';
import type { Content, ImageSource, Kind, Labels, SnapshotRecord, Usage } from './info.ts';
import { LABEL } from './labels.ts';

/** Version of the database's schema, in its `user_version`. A store of another version is refused. */
const SCHEMA_VERSION = 1;

const SCHEMA = `
CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  parent INTEGER REFERENCES snapshots (id),
  kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
  content TEXT NOT NULL CHECK (content IN ('directory', 'blob', 'bootstrap')),
  labels TEXT NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  size INTEGER NOT NULL DEFAULT 0,
  inodes INTEGER NOT NULL DEFAULT 0,
  source TEXT
) STRICT;
CREATE INDEX snapshots_parent ON snapshots (parent);
PRAGMA user_version = ${SCHEMA_VERSION};
`;

const SELECT = `
SELECT s.id, s.name, coalesce(p.name, '') AS parent, s.parent AS parentId, s.kind, s.content, s.labels, s.created,
  s.updated, s.size, s.inodes, s.source
FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent`;

interface Row {
  readonly id: number;
  readonly name: string;
  readonly parent: string;
  readonly parentId: number | null;
  readonly kind: Kind;
  readonly content: Content;
  readonly labels: string;
  readonly created: number;
  readonly updated: number;
  readonly size: number;
  readonly inodes: number;
  readonly source: string | null;
}

const recordOf = ({ parentId: _, labels, size, inodes, source, ...row }: Row): SnapshotRecord => ({
  ...row,
  labels: JSON.parse(labels) as Labels,
  usage: { size, inodes },
  source: source === null ? null : (JSON.parse(source) as ImageSource),
});

export interface NewSnapshot {
  readonly name: string;
  /** Empty: none. */
  readonly parent: string;
  readonly kind: Kind;
  readonly labels: Labels;
  readonly content: Content;
  readonly usage?: Usage;
  readonly source?: ImageSource;
}

export interface CommitOptions {
  readonly labels: Labels;
  readonly usage: Usage;
  /** Default: unchanged. */
  readonly content?: Content;
  readonly source?: ImageSource;
}

export class Records implements Disposable {
  readonly #db: Database;
  readonly #byName: Statement<[string], Row>;
  readonly #byId: Statement<[number], Row>;
  readonly #all: Statement<[], Row>;

  private constructor(db: Database) {
    this.#db = db;
    this.#byName = db.prepare(`${SELECT} WHERE s.name = ?`);
    this.#byId = db.prepare(`${SELECT} WHERE s.id = ?`);
    this.#all = db.prepare(`${SELECT} ORDER BY s.id`);
  }

  /** Opens or makes the database file. UNSUPPORTED without better-sqlite3, FORMAT for a store of another version. */
  static async open(path: string): Promise<Records> {
    const open = await loadSqlite();
    const db = open(path);
    try {
      db.pragma('journal_mode = WAL');
      db.pragma('synchronous = FULL');
      db.pragma('foreign_keys = ON');
      const version = db.pragma('user_version', { simple: true });
      if (version === 0) db.transaction(() => db.exec(SCHEMA)).immediate();
      else if (version !== SCHEMA_VERSION) throw otherVersion(path, version);
      return new Records(db);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  get(name: string): SnapshotRecord {
    const row = this.#byName.get(name);
    if (row === undefined) throw new LacunaError('NOT_FOUND', 'the snapshot does not exist', { subject: name });
    return recordOf(row);
  }

  has(name: string): boolean {
    return this.#byName.get(name) !== undefined;
  }

  /** The identifiers of all records whose files are of this kind. */
  idsOf(content: Content): ReadonlySet<number> {
    const ids = this.#db.prepare<[Content], { id: number }>('SELECT id FROM snapshots WHERE content = ?').all(content);
    return new Set(ids.map(({ id }) => id));
  }

  list(): SnapshotRecord[] {
    return this.#all.all().map(recordOf);
  }

  /** The snapshot and its ancestors, newest first. */
  chain(name: string): SnapshotRecord[] {
    const chain: SnapshotRecord[] = [];
    let row = this.#byName.get(name);
    if (row === undefined) throw new LacunaError('NOT_FOUND', 'the snapshot does not exist', { subject: name });
    for (; row !== undefined; row = row.parentId === null ? undefined : this.#byId.get(row.parentId)) {
      chain.push(recordOf(row));
    }
    return chain;
  }

  /** The lazily committed layer `ref` (a chain ID) on top of `parent`, under any name; null when there is none. */
  findLazy(ref: string, parent: string): SnapshotRecord | null {
    const rows = this.#db
      .prepare<[string], Row>(`${SELECT} WHERE s.content <> 'directory' AND s.labels ->> '$."${LABEL.ref}"' = ?`)
      .all(ref);
    const found = rows.find((row) => row.kind === 'committed' && row.parent === parent);
    return found === undefined ? null : recordOf(found);
  }

  /**
   * Makes a record. `commitAs` runs last inside the transaction, which it undoes by throwing. ALREADY_EXISTS, NOT_FOUND
   * (parent), PRECONDITION (parent is not committed), USAGE (empty name).
   */
  create(snapshot: NewSnapshot, commitAs: CommitAs): SnapshotRecord {
    return this.#change(() => {
      if (snapshot.name === '') throw new LacunaError('USAGE', 'a snapshot needs a key');
      const parent = snapshot.parent === '' ? null : this.get(snapshot.parent);
      if (parent !== null && parent.kind !== 'committed') {
        throw new LacunaError('PRECONDITION', 'the parent is not committed', { subject: snapshot.parent });
      }
      this.#assertFree(snapshot.name);
      const now = nowMicros();
      const { lastInsertRowid } = this.#db
        .prepare(
          `INSERT INTO snapshots (name, parent, kind, content, labels, created, updated, size, inodes, source)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          snapshot.name,
          parent?.id ?? null,
          snapshot.kind,
          snapshot.content,
          labelText(snapshot.labels),
          now,
          now,
          snapshot.usage?.size ?? 0,
          snapshot.usage?.inodes ?? 0,
          sourceText(snapshot.source),
        );
      commitAs(Number(lastInsertRowid));
      return this.get(snapshot.name);
    });
  }

  /** Turns the active snapshot `key` into the committed snapshot `name`. ALREADY_EXISTS, NOT_FOUND, PRECONDITION. */
  commit(key: string, name: string, options: CommitOptions, commitAs: CommitAs): void {
    this.#change(() => {
      if (name === '') throw new LacunaError('USAGE', 'a snapshot needs a name', { subject: key });
      this.#assertFree(name);
      const record = this.get(key);
      if (record.kind !== 'active')
        throw new LacunaError('PRECONDITION', 'the snapshot is not active', { subject: key });
      const now = nowMicros();
      this.#db
        .prepare(
          `UPDATE snapshots SET name = ?, kind = 'committed', content = ?, labels = ?, created = ?, updated = ?,
           size = ?, inodes = ?, source = ? WHERE id = ?`,
        )
        .run(
          name,
          options.content ?? record.content,
          labelText(options.labels),
          now,
          now,
          options.usage.size,
          options.usage.inodes,
          sourceText(options.source),
          record.id,
        );
      commitAs(record.id);
    });
  }

  /** Removes a record. NOT_FOUND; PRECONDITION when other snapshots are built on it. */
  remove(key: string): SnapshotRecord {
    return this.#change(() => {
      const record = this.get(key);
      const child = this.#db.prepare<[number], { name: string }>('SELECT name FROM snapshots WHERE parent = ? LIMIT 1');
      const found = child.get(record.id);
      if (found !== undefined) {
        throw new LacunaError('PRECONDITION', `cannot remove snapshot with child ${found.name}`, { subject: key });
      }
      this.#db.prepare('DELETE FROM snapshots WHERE id = ?').run(record.id);
      return record;
    });
  }

  /** Replaces the labels that `mask` names (`labels`, `labels.KEY`; empty: all). USAGE for other fields. */
  update(name: string, labels: Labels, mask: readonly string[]): SnapshotRecord {
    return this.#change(() => {
      const record = this.get(name);
      this.#db
        .prepare('UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?')
        .run(labelText(maskedLabels(record, labels, mask)), nowMicros(), record.id);
      return this.get(name);
    });
  }

  close(): void {
    this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes the write lock first, so that data that is read stays valid until the write. */
  #change<T>(work: () => T): T {
    return this.#db.transaction(work).immediate();
  }

  #assertFree(name: string): void {
    if (!this.has(name)) return;
    throw new LacunaError('ALREADY_EXISTS', 'the snapshot already exists', { subject: name });
  }
}

function maskedLabels(record: SnapshotRecord, labels: Labels, mask: readonly string[]): Labels {
  if (mask.length === 0) return labels;
  let result: Labels = record.labels;
  for (const field of mask) {
    if (field === 'labels') result = labels;
    else if (field.startsWith('labels.')) {
      const key = field.slice('labels.'.length);
      result = { ...result, [key]: Object.hasOwn(labels, key) ? labels[key]! : '' };
    } else {
      throw new LacunaError('USAGE', `the field ${JSON.stringify(field)} cannot be updated`, { subject: record.name });
    }
  }
  return result;
}

const labelText = (labels: Labels): string =>
  JSON.stringify(Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== '')));

const sourceText = (source: ImageSource | undefined): string | null =>
  source === undefined ? null : JSON.stringify(source);

/** The wall clock in microseconds; the finer clock is used only while it agrees with the adjusted one. */
function nowMicros(): number {
  const wall = Date.now();
  const fine = performance.timeOrigin + performance.now();
  return Math.floor((fine >= wall && fine < wall + 1 ? fine : wall) * 1000);
}

async function loadSqlite(): Promise<typeof import('better-sqlite3')> {
  try {
    return (await import('better-sqlite3')).default;
  } catch (cause) {
    throw new LacunaError(
      'UNSUPPORTED',
      'the snapshotter keeps its records with better-sqlite3, which is not installed',
      {
        op: 'open snapshot records',
        hint: 'npm install better-sqlite3 (needs a C++ compiler where there is no prebuilt binary)',
        cause,
      },
    );
  }
}

function otherVersion(path: string, version: unknown): LacunaError {
  return new LacunaError(
    'FORMAT',
    `the snapshot records have version ${version}, this Lacuna reads version ${SCHEMA_VERSION}`,
    {
      op: 'open snapshot records',
      subject: path,
      hint: 'use the version of Lacuna that wrote them, or empty the root with `lacuna cleanup` and pull again',
    },
  );
}
