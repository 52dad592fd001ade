/**
 * A tar file read in place: an index of its members, then ranges of it. A compressed one, and one that comes on standard
 * input, is first copied into a temporary file that has no name any more and so goes with the process.
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FormatError, LacunaError, toLacunaError } from '../../errors.ts';
import { detectCompression, MAGIC_SIZE } from '../../image/compression.ts';
import { parseJson } from '../../image/json.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../../image/manifest.ts';
import { STREAM } from '../../image/reference.ts';
import { openRegular } from '../../open-file.ts';
import { type TarEntry, type TarHandler, TarParser } from '../../tree/tar.ts';
import { abortError, isAborted } from '../http/transport.ts';
import type { BlobLocation, ReadableFile } from './file-store.ts';

/** More than any archive of images has: three members a layer, and some images. */
export const MAX_ARCHIVE_MEMBERS = 100_000;
/** Longer names mean nothing in an archive of images; they are passed over. */
const MAX_MEMBER_NAME = 512;
/** Links that `docker save` writes for layers it has already written lead to the layer at once. */
const MAX_LINKS = 4;
/** Headers read at once. */
const WINDOW = 64 * 1024;

/** A member with content, or a link to another one. */
type IndexedMember = { readonly offset: number; readonly size: number } | { readonly link: string };

/** What an archive holds. */
export interface ArchiveContent {
  /** Its images; one with several names several times. */
  readonly entries: readonly Descriptor[];
  find(digest: string): BlobLocation | null;
}

export class ArchiveFile {
  readonly subject: string;
  readonly #file: FileHandle;
  readonly #members: ReadonlyMap<string, IndexedMember>;

  private constructor(subject: string, file: FileHandle, members: ReadonlyMap<string, IndexedMember>) {
    this.subject = subject;
    this.#file = file;
    this.#members = members;
  }

  /** Opens `path`, `-` being standard input. NOT_FOUND, or FORMAT for what is not an archive. */
  static async open(path: string, signal: AbortSignal | null): Promise<ArchiveFile> {
    let file =
      path === STREAM ? await spool([standardInput()], path, signal) : (await openRegular(path, { op: 'open' })).file;
    try {
      if (await isGzip(file, path)) {
        const packed = file;
        try {
          // A gzip stream grows at most 1032-fold, so what it can fill is bounded by its own length.
          file = await spool([packed.createReadStream({ start: 0, autoClose: false }), createGunzip()], path, signal);
        } finally {
          await packed.close();
        }
      }
      return new ArchiveFile(path, file, await indexOf(file, path, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Where a member's content is, links followed inside the archive; null when there is none. */
  find(name: string): BlobLocation | null {
    let member = this.#members.get(name);
    for (let links = 0; member !== undefined && 'link' in member; links++) {
      if (links === MAX_LINKS) throw this.#bad(name, 'goes through a loop of links');
      member = this.#members.get(member.link);
    }
    if (member === undefined) return null;
    // The file stays open for the next reader.
    const shared: ReadableFile = {
      read: (buffer, offset, length, position) => this.#file.read(buffer, offset, length, position),
      close: async () => {},
    };
    return { offset: member.offset, size: member.size, open: async () => shared };
  }

  /** The whole content of a small member, null when there is none. */
  async read(name: string): Promise<Buffer | null> {
    const location = this.find(name);
    if (location === null) return null;
    if (location.size > MAX_MANIFEST_SIZE)
      throw this.#bad(name, `${location.size} bytes exceed the limit of ${MAX_MANIFEST_SIZE}`);
    const bytes = Buffer.alloc(location.size);
    const { bytesRead } = await this.#file.read(bytes, 0, location.size, location.offset);
    if (bytesRead !== location.size) throw this.#bad(name, 'truncated');
    return bytes;
  }

  /** The value of a JSON member, null when there is none. */
  async json(name: string): Promise<unknown> {
    const bytes = await this.read(name);
    const subject = `${this.subject}, ${name}`;
    return bytes === null ? null : parseJson(bytes, { op: 'read archive', subject, limit: MAX_MANIFEST_SIZE });
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #bad(name: string, problem: string): FormatError {
    return new FormatError(name, problem, { op: 'read archive', subject: this.subject });
  }
}

function standardInput(): NodeJS.ReadableStream {
  if (!process.stdin.isTTY) return process.stdin;
  throw new LacunaError('USAGE', 'refusing to read an archive from a terminal', {
    op: 'open',
    hint: 'docker save IMAGE | lacuna convert docker-archive:- TARGET',
  });
}

/** Copies what comes out of `stages` into a file without a name. */
async function spool(
  stages: readonly [NodeJS.ReadableStream, ...NodeJS.ReadWriteStream[]],
  subject: string,
  signal: AbortSignal | null,
): Promise<FileHandle> {
  const path = join(tmpdir(), `lacuna-${process.pid}-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  try {
    await rm(path);
    const sink = new Writable({
      write: (piece: Buffer, _, done) => void file.writeFile(piece).then(() => done(), done),
    });
    await pipeline([...stages, sink], signal === null ? {} : { signal });
    return file;
  } catch (cause) {
    await file.close();
    if (isAborted(signal)) throw abortError(signal, 'read archive', subject);
    const context = { op: 'read archive', subject, cause };
    const isGarbled = cause instanceof Error && 'code' in cause && /^Z_/.test(String(cause.code));
    throw isGarbled ? new FormatError('gzip stream', cause.message, context) : toLacunaError(cause, context);
  }
}

async function isGzip(file: FileHandle, subject: string): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC_SIZE), 0, MAGIC_SIZE, 0);
  const compression = detectCompression(buffer.subarray(0, bytesRead));
  if (compression === 'none' || compression === 'gzip') return compression === 'gzip';
  throw new LacunaError('UNSUPPORTED', `the archive is compressed with ${compression}`, {
    op: 'read archive',
    subject,
    hint: `${compression} -dc ${subject} | lacuna … and ${STREAM} for the file`,
  });
}

/** The members by name; of several with one name the last counts, as for `docker load`, which extracts the archive. */
async function indexOf(
  file: FileHandle,
  subject: string,
  signal: AbortSignal | null,
): Promise<Map<string, IndexedMember>> {
  const { size } = await file.stat();
  const collector = new MemberCollector(subject);
  const parser = new TarParser(collector, { subject });
  const window = Buffer.allocUnsafe(WINDOW);
  for (let at = 0; ; ) {
    if (isAborted(signal)) throw abortError(signal, 'read archive', subject);
    const { bytesRead } = await file.read(window, 0, WINDOW, at);
    const pushed = parser.push(window, 0, bytesRead);
    at += pushed;
    collector.contentAt(at, size);
    const passed = parser.passOver();
    at += passed;
    if (bytesRead === 0 || (pushed === 0 && passed === 0)) {
      parser.finish(Math.max(0, bytesRead - pushed));
      return collector.members;
    }
  }
}

class MemberCollector implements TarHandler {
  readonly members = new Map<string, IndexedMember>();
  readonly #subject: string;
  /** The file whose content begins where the parser stopped. */
  #open: { readonly name: string; readonly size: number } | null = null;

  constructor(subject: string) {
    this.#subject = subject;
  }

  entry({ name, type, size, linkName }: TarEntry, isSparse: boolean): void {
    if (isSparse) throw this.#bad(name, 'a sparse file, whose content does not lie in the archive as it is');
    if (type === 'dir' || name.length > MAX_MEMBER_NAME) {
      this.#open = size > 0 ? { name: '', size } : null;
    } else if (type === 'reg') {
      this.#open = size > 0 ? { name, size } : null;
      this.#put(name, { offset: 0, size });
    } else if (type === 'symlink' || type === 'hardlink') {
      this.#put(name, { link: type === 'symlink' ? besides(name, linkName!) : linkName! });
    } else {
      throw this.#bad(name, `a ${type} does not belong into an archive of images`);
    }
  }

  /** Content is not taken: the reader passes over it. */
  content(): number {
    return 0;
  }

  /** The parser stopped at byte `at` of `end`. */
  contentAt(at: number, end: number): void {
    if (this.#open === null) return;
    const { name, size } = this.#open;
    this.#open = null;
    if (at + size > end) throw this.#bad(name, `${size} bytes at offset ${at} exceed the file's ${end} bytes`);
    if (name !== '') this.members.set(name, { offset: at, size });
  }

  #put(name: string, member: IndexedMember): void {
    if (this.members.size === MAX_ARCHIVE_MEMBERS)
      throw this.#bad(name, `the archive has more than ${MAX_ARCHIVE_MEMBERS} members`);
    this.members.set(name, member);
  }

  #bad(name: string, problem: string): FormatError {
    return new FormatError(name === '' ? 'member' : name.slice(0, 160), problem, {
      op: 'read archive',
      subject: this.#subject,
    });
  }
}

/** What a link in `name`'s folder leads to; a name no member has when that is outside of the archive. */
function besides(name: string, target: string): string {
  const parts = target.startsWith('/') ? [] : name.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '..' && parts.pop() === undefined) return '';
    if (part !== '' && part !== '.' && part !== '..') parts.push(part);
  }
  return parts.join('/');
}
