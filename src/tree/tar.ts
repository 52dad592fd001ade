/**
 * An incremental tar parser over big buffers: ustar, pax, GNU and star, no I/O.
 *
 * The caller reads into a large buffer and pushes it; the parser reports entries and offers their content in place,
 * so that nothing is copied. What it leaves unconsumed the caller moves to the front of the next buffer.
 */
import { FormatError } from '../errors.ts';
import type { ByteString, Mtime } from './node.ts';
import { MAX_PATH, normalizePath, quote } from './path.ts';
import { type PaxRecords, parsePax, paxNumber, paxTime, XATTR_PREFIX } from './pax.ts';
import { BLOCK, decodeHeader, isZeroBlock, type RawHeader } from './tarheader.ts';

/** The longest PAX header that is read, in bytes; longer ones are refused. */
export const DEFAULT_MAX_PAX = 1024 * 1024;

export type TarType = 'reg' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

export interface TarEntry {
  /** Relative to the root, normalised (`./a//b/` is `a/b`); `''` is the root. */
  readonly name: ByteString;
  readonly type: TarType;
  /** Of a symlink as it stands, of a hard link normalised like a name, else null. */
  readonly linkName: ByteString | null;
  /** 0…0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Content bytes of a regular file, else 0. */
  readonly size: number;
  readonly mtime: Mtime;
  readonly rdev: { readonly major: number; readonly minor: number } | null;
  readonly xattrs: Map<ByteString, Buffer> | null;
}

export interface TarHandler {
  entry(entry: TarEntry): void;
  /**
   * `available` content bytes of the current entry lie at `start`; `remaining` ≥ available are still to come in all.
   * Returns how many are taken (0…available); the others are offered again with the next push.
   */
  content(buffer: Buffer, start: number, available: number, remaining: number): number;
}

export interface TarOptions {
  /** What the tar is, for error messages. */
  readonly subject?: string;
  /** Bytes, {@link DEFAULT_MAX_PAX}. */
  readonly maxPax?: number;
}

const TYPES: Readonly<Record<string, TarType>> = {
  '\0': 'reg',
  '0': 'reg',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'dir',
  '6': 'fifo',
  '7': 'reg', // contiguous
};

/** Entries that describe the next entry. `K` and `L` are GNU's long link target and long name. */
type MetaType = 'x' | 'g' | 'K' | 'L';
const isMeta = (typeflag: string): typeflag is MetaType => 'xgKL'.includes(typeflag);

export class TarParser {
  readonly #handler: TarHandler;
  readonly #subject: string;
  readonly #maxPax: number;

  /** `body`: bytes of an extended header are being collected. `ended`: two zero blocks were seen. */
  #state: 'header' | 'content' | 'skip' | 'body' | 'ended' = 'header';
  /** Bytes still to come of content, skip or body. */
  #left = 0;
  /** Zero bytes that pad the current content or body to a whole block. */
  #padding = 0;
  /** Bytes of the tar consumed so far, for error messages. */
  #offset = 0;
  #sawZeroBlock = false;

  #meta: { type: MetaType; bytes: Buffer } | null = null;
  readonly #globals: PaxRecords = new Map();
  #locals: PaxRecords | null = null;
  #longName: ByteString | null = null;
  #longLink: ByteString | null = null;

  constructor(handler: TarHandler, options: TarOptions = {}) {
    this.#handler = handler;
    this.#subject = options.subject ?? 'tar';
    this.#maxPax = options.maxPax ?? DEFAULT_MAX_PAX;
  }

  /**
   * Parses buffer[start, end) and returns the offset in `buffer` up to which it was consumed. The rest (less than a
   * block, or content that the handler did not take) must come again at the front of the next push.
   */
  push(buffer: Buffer, start: number, end: number): number {
    let at = start;
    for (;;) {
      const before = at;
      at += this.#step(buffer, at, end);
      this.#offset += at - before;
      if (at === before) return at;
    }
  }

  /**
   * For readers that can seek: what is left of the current content and its padding, in bytes. It is passed over without
   * being pushed; the next push begins behind it.
   */
  passOver(): number {
    const length = this.#state === 'content' ? this.#left + this.#padding : this.#state === 'skip' ? this.#left : 0;
    if (length === 0) return 0;
    this.#state = 'header';
    this.#left = 0;
    this.#offset += length;
    return length;
  }

  /** No more input, `unconsumed` bytes were left over. Throws FormatError when the tar stops in the middle of something. */
  finish(unconsumed: number): void {
    const cleanEnd = this.#state === 'ended' || (this.#state === 'header' && !this.#hasPending());
    if (!cleanEnd || unconsumed > 0) {
      throw new FormatError('tar', 'truncated', { subject: this.#subject, offset: this.#offset });
    }
  }

  /** One piece of work; returns the bytes it consumed, 0 when it needs more. */
  #step(buffer: Buffer, at: number, end: number): number {
    switch (this.#state) {
      case 'header':
        if (end - at < BLOCK) return 0;
        this.#header(buffer, at);
        return BLOCK;
      case 'content': {
        const available = Math.min(this.#left, end - at);
        if (available === 0) return 0;
        const taken = this.#handler.content(buffer, at, available, this.#left);
        this.#left -= taken;
        if (this.#left === 0) this.#skip(this.#padding);
        return taken;
      }
      case 'skip': {
        const skipped = Math.min(this.#left, end - at);
        this.#left -= skipped;
        if (this.#left === 0) this.#state = 'header';
        return skipped;
      }
      case 'body':
        return this.#collect(buffer, at, end);
      case 'ended':
        return end - at;
    }
  }

  #skip(length: number): void {
    this.#left = length;
    this.#state = length === 0 ? 'header' : 'skip';
  }

  #hasPending(): boolean {
    return this.#locals !== null || this.#longName !== null || this.#longLink !== null;
  }

  #header(buffer: Buffer, at: number): void {
    if (buffer[at] === 0 && isZeroBlock(buffer, at)) {
      if (this.#sawZeroBlock) this.#state = 'ended';
      this.#sawZeroBlock = true;
      return;
    }
    if (this.#sawZeroBlock) throw this.#bad('tar', 'a single zero block in the middle');
    const raw = decodeHeader(buffer, at, this.#offset, this.#subject);
    if (raw.size < 0) throw this.#bad('tar size', 'negative');
    if (isMeta(raw.typeflag)) this.#beginMeta(raw.typeflag, raw.size);
    else if (raw.typeflag === 'S') throw this.#bad('tar type', 'GNU sparse files are not supported');
    else this.#entry(raw);
  }

  #beginMeta(type: MetaType, size: number): void {
    const isPax = type === 'x' || type === 'g';
    const limit = isPax ? this.#maxPax : MAX_PATH + 1;
    if (size > limit) {
      throw this.#bad(isPax ? 'pax header' : 'GNU long name', `${size} bytes, longer than ${limit}`);
    }
    this.#meta = { type, bytes: Buffer.allocUnsafe(size) };
    this.#padding = paddingOf(size);
    this.#left = size;
    this.#state = 'body';
    if (size === 0) this.#endMeta();
  }

  #collect(buffer: Buffer, at: number, end: number): number {
    const taken = Math.min(this.#left, end - at);
    const { bytes } = this.#meta!;
    buffer.copy(bytes, bytes.length - this.#left, at, at + taken);
    this.#left -= taken;
    if (this.#left === 0) this.#endMeta();
    return taken;
  }

  #endMeta(): void {
    const { type, bytes } = this.#meta!;
    this.#meta = null;
    this.#skip(this.#padding);
    if (type === 'g') {
      parsePax(bytes, this.#globals, this.#subject);
      for (const [key, value] of this.#globals) {
        if (value === '' && !key.startsWith(XATTR_PREFIX)) this.#globals.delete(key);
      }
    } else if (type === 'x') {
      this.#locals ??= new Map();
      parsePax(bytes, this.#locals, this.#subject);
    } else {
      const nul = bytes.indexOf(0);
      const text = bytes.toString('latin1', 0, nul < 0 ? bytes.length : nul);
      if (type === 'L') this.#longName = text;
      else this.#longLink = text;
    }
  }

  /** The value of a pax key for the current entry; an empty local one takes a global one away. */
  #pax(key: string): ByteString | null {
    const value = this.#locals?.get(key) ?? this.#globals.get(key);
    return value === undefined || value === '' ? null : value;
  }

  #entry(raw: RawHeader): void {
    const extended = this.#locals !== null || this.#globals.size > 0;
    const name = (extended ? this.#pax('path') : null) ?? this.#longName ?? raw.name;
    const link = (extended ? this.#pax('linkpath') : null) ?? this.#longLink ?? raw.linkName;
    if (extended) this.#applyPax(raw, name);
    const xattrs = extended ? this.#xattrs() : null;
    const mtime = (extended ? this.#paxMtime() : null) ?? { sec: raw.mtime, nsec: 0 };
    this.#locals = this.#longName = this.#longLink = null;

    const type = raw.typeflag === '\0' && name.endsWith('/') ? 'dir' : TYPES[raw.typeflag];
    // Only files have content; other types may carry a size that means nothing (as in Go's archive/tar).
    const stored = type === undefined || type === 'reg' ? raw.size : 0;
    this.#padding = paddingOf(stored);
    if (type === undefined) {
      this.#skip(stored + this.#padding);
      return;
    }
    this.#left = stored;
    this.#state = stored === 0 ? 'header' : 'content';
    this.#handler.entry({
      name: normalizePath(name, 'tar name', this.#subject),
      type,
      linkName: this.#linkName(type, name, link),
      mode: raw.mode & 0o7777,
      uid: this.#id(raw.uid, 'tar uid'),
      gid: this.#id(raw.gid, 'tar gid'),
      size: stored,
      mtime,
      rdev: type === 'char' || type === 'block' ? { major: raw.rdevMajor, minor: raw.rdevMinor } : null,
      xattrs,
    });
  }

  #linkName(type: TarType, name: ByteString, link: ByteString): ByteString | null {
    if (type === 'hardlink') return normalizePath(link, 'tar link name', this.#subject);
    if (type !== 'symlink') return null;
    if (link === '' || link.length >= MAX_PATH || link.includes('\0')) {
      throw this.#bad(
        'tar link name',
        `the target of ${quote(name)} is empty, has a NUL, or is longer than ${MAX_PATH - 1} bytes`,
      );
    }
    return link;
  }

  #applyPax(raw: RawHeader, name: ByteString): void {
    const isSparse = this.#pax('GNU.sparse.major') ?? this.#pax('GNU.sparse.map') ?? this.#pax('GNU.sparse.size');
    if (isSparse !== null)
      throw this.#bad('pax header', `${quote(name)} is sparse; GNU sparse files are not supported`);
    for (const key of ['size', 'uid', 'gid'] as const) {
      const value = this.#pax(key);
      if (value !== null) raw[key] = paxNumber(value, key, this.#subject);
    }
  }

  #paxMtime(): Mtime | null {
    const value = this.#pax('mtime');
    return value === null ? null : paxTime(value, this.#subject);
  }

  #xattrs(): Map<ByteString, Buffer> | null {
    let found: Map<ByteString, Buffer> | null = null;
    for (const records of [this.#globals, this.#locals]) {
      for (const [key, value] of records ?? []) {
        if (!key.startsWith(XATTR_PREFIX)) continue;
        found ??= new Map();
        found.set(key.slice(XATTR_PREFIX.length), Buffer.from(value, 'latin1'));
      }
    }
    return found;
  }

  #id(value: number, field: string): number {
    // 2^32 − 1 is no id: chown(2) and the kernel take it for "none".
    if (value < 0 || value >= 0xffff_ffff) throw this.#bad(field, `${value} is not in 0…2^32-2`);
    return value;
  }

  #bad(field: string, problem: string): FormatError {
    return new FormatError(field, problem, { subject: this.#subject, offset: this.#offset });
  }
}

const paddingOf = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;
