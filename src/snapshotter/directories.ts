/**
 * One folder of numbered directories, `<id>/`, one per record. A directory is made under a temporary name, and renamed
 * inside the transaction that makes its record. A directory without a record, as a crash may leave it, is an orphan and is
 * deleted at the next start or cleanup.
 */
import { closeSync, fsyncSync, mkdtempSync, openSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../make-directory.ts';
import { removeTree, type WalkOptions } from '../native/tree.ts';

const TEMPORARY = 'new-';

/** Renames a new directory to its number; it throws when that fails. */
export type CommitAs = (id: number) => void;

export class Directories {
  readonly #folder: string;
  /** Temporary directories of calls under way. */
  readonly #busy = new Set<string>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(folder: string): Promise<Directories> {
    await makeDirectory(folder, 0o700);
    return new Directories(folder);
  }

  path(id: number): string {
    return join(this.#folder, String(id));
  }

  /**
   * Makes a directory: `fill` writes its content, `use` makes its record and calls `commitAs` with the record's number in
   * that transaction. The directory is deleted again when either fails.
   */
  async make<T>(fill: (path: string) => Promise<void>, use: (commitAs: CommitAs) => T): Promise<T> {
    const temporary = mkdtempSync(join(this.#folder, TEMPORARY));
    this.#busy.add(temporary);
    let path = temporary;
    try {
      await fill(path);
      return use((id) => {
        renameSync(path, this.path(id));
        path = this.path(id);
        this.#sync();
      });
    } catch (error) {
      await removeTree(path);
      throw error;
    } finally {
      this.#busy.delete(temporary);
    }
  }

  async remove(id: number, options: WalkOptions = {}): Promise<void> {
    await removeTree(this.path(id), options);
  }

  /**
   * Paths of entries that neither belong to one of `ids` nor are being made. Synchronous, so that no id is added
   * meanwhile.
   */
  orphans(ids: ReadonlySet<number>): string[] {
    const names = readdirSync(this.#folder);
    const paths = names.filter((name) => !ids.has(Number(name))).map((name) => join(this.#folder, name));
    return paths.filter((path) => !this.#busy.has(path));
  }

  /** Makes the rename durable: a record must not survive a power cut that its directory's name does not. */
  #sync(): void {
    const fd = openSync(this.#folder, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
