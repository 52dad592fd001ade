/**
 * A tar file that is read in place: an index of its members, then ranges of the file. A compressed archive, or one from
 * standard input, is first copied into an unlinked temporary file, which the system removes with the process.
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

/** Maximum members of an archive. Images have three members per layer at most. */
export const MAX_ARCHIVE_MEMBERS = 100_000;
/** Maximum length of a member's name. Longer ones have no meaning in an archive of images and are skipped. */
const MAX_MEMBER_NAME = 512;
/** Maximum links from a member to its content. `docker save` links repeated layers directly to the first. */
const MAX_LINKS = 4;
/** Bytes of headers that are read at once. */
const WINDOW = 64 * 1024;

/** A member with content, or a link to another one. */
type IndexedMember = { readonly offset: number; readonly size: number } | { readonly link: string };

/** Images and blobs of an archive. */
export interface ArchiveContent {
  /** Images of the archive, once for each of their names. */
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

  /** Opens the archive at `path`; `-` is standard input. NOT_FOUND; FORMAT when it is not an archive. */
  static async open(path: string, signal: AbortSignal | null): Promise<ArchiveFile> {
    let file =
      path === STREAM ? await spool([standardInput()], path, signal) : (await openRegular(path, { op: 'open' })).file;
    try {
      if (await isGzip(file, path)) {
        const compressed = file;
        try {
          // A gzip stream expands at most 1032-fold, so its own length bounds the copy.
          file = await spool(
            [compressed.createReadStream({ start: 0, autoClose: false }), createGunzip()],
            path,
            signal,
          );
        } finally {
          await compressed.close();
        }
      }
      return new ArchiveFile(path, file, await indexOf(file, path, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The location of a member's content, after links within the archive; null when there is no such member. */
  find(name: string): BlobLocation | null {
    let member = this.#members.get(name);
    for (let links = 0; member !== undefined && 'link' in member; links++) {
      if (links === MAX_LINKS) throw this.#bad(name, `has more than ${MAX_LINKS} links to follow`);
      member = this.#members.get(member.link);
    }
    if (member === undefined) return null;
    // Readers share the file, which stays open.
    const shared: ReadableFile = {
      read: (buffer, offset, length, position) => this.#file.read(buffer, offset, length, position),
      close: async () => {},
    };
    return { offset: member.offset, size: member.size, open: async () => shared };
  }

  /** The content of a small member; null when there is no such member. */
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

  /** The value of a JSON member; null when there is no such member. */
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

/** Copies the output of `stages` into an unlinked temporary file. */
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
    const isDamaged = cause instanceof Error && 'code' in cause && /^Z_/.test(String(cause.code));
    throw isDamaged ? new FormatError('gzip stream', cause.message, context) : toLacunaError(cause, context);
  }
}

async function isGzip(file: FileHandle, subject: string): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC_SIZE), 0, MAGIC_SIZE, 0);
  const compression = detectCompression(buffer.subarray(0, bytesRead));
  if (compression === 'none' || compression === 'gzip') return compression === 'gzip';
  throw new LacunaError('UNSUPPORTED', `unsupported compression of an archive: ${compression}`, {
    op: 'read archive',
    subject,
    hint: `decompress it: ${compression} -dc ${subject} | lacuna … with ${STREAM} as the file`,
  });
}

/** Members by name. Of several with one name the last counts, as for `docker load`, which extracts the archive. */
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
  /** The file whose content starts where the parser stopped. */
  #open: { readonly name: string; readonly size: number } | null = null;

  constructor(subject: string) {
    this.#subject = subject;
  }

  entry({ name, type, size, linkName }: TarEntry, isSparse: boolean): void {
    if (isSparse)
      throw this.#bad(name, 'sparse files are not supported: their content is not contiguous in the archive');
    if (type === 'dir' || name.length > MAX_MEMBER_NAME) {
      this.#open = size > 0 ? { name: '', size } : null;
    } else if (type === 'reg') {
      this.#open = size > 0 ? { name, size } : null;
      this.#put(name, { offset: 0, size });
    } else if (type === 'symlink' || type === 'hardlink') {
      this.#put(name, { link: type === 'symlink' ? linkTarget(name, linkName!) : linkName! });
    } else {
      throw this.#bad(name, `an archive of images must not contain a ${type}`);
    }
  }

  /** Takes no content: the reader skips it. */
  content(): number {
    return 0;
  }

  /** Records that content starts at byte `at`, where the parser stopped; the file has `end` bytes. */
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

/** The target of a link in the folder of `name`; an empty name, which no member has, when it is outside the archive. */
function linkTarget(name: string, target: string): string {
  const parts = target.startsWith('/') ? [] : name.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '..' && parts.pop() === undefined) return '';
    if (part !== '' && part !== '.' && part !== '..') parts.push(part);
  }
  return parts.join('/');
}
