/**
 * An incremental tar parser for large buffers: v7, ustar, pax, GNU and star; no I/O. It accepts and interprets what Go's
 * archive/tar does, which docker, containerd and umoci use.
 *
 * The caller reads into a large buffer and pushes it. The parser reports entries and offers their content in place, so
 * that nothing is copied. The caller moves unconsumed bytes to the front of the next buffer.
 */
import { FormatError, LacunaError } from '../errors.ts';
import type { ByteString, Mtime } from './node.ts';
import { MAX_PATH, normalizePath, quote } from './path.ts';
import { boundTime, type PaxRecords, parsePax, paxId, paxNumber, paxTime, XATTR_PREFIX } from './pax.ts';
import { oldSparseMap, paxSparseMap, type SparseMap } from './sparse.ts';
import { BLOCK, decodeHeader, isGnuHeader, isZeroBlock, type RawHeader } from './tarheader.ts';

/**
 * Maximum bytes of all headers before a member that describe it (pax, GNU long name and link target). Of several of one
 * kind, the last one counts.
 */
export const DEFAULT_MAX_PAX = 1024 * 1024;

export type TarType = 'reg' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

export interface TarEntry {
  /** Path relative to the root, normalised (`./a//b/` is `a/b`); `''` is the root. */
  readonly name: ByteString;
  readonly type: TarType;
  /** Target of a symlink as stored, or of a hard link normalised like a name; else null. */
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
  /** `isSparse`: the tar holds only parts of the file; `entry.size` is that of the whole file. */
  entry(entry: TarEntry, isSparse: boolean): void;
  /**
   * Offers `available` content bytes of the current entry at `start`; `remaining` ≥ available are left in total.
   * Returns how many the handler consumed (0…available); the parser offers the others again with the next push.
   */
  content(buffer: Buffer, start: number, available: number, remaining: number): number;
  /**
   * Offers `length` zero bytes of a hole, which the tar does not hold. Returns as {@link content} does, which gets the
   * zeros in pieces when this method is missing.
   */
  hole?(length: number, remaining: number): number;
}

/** Zeros, for handlers that need the bytes of a hole. */
export const ZEROS: Buffer = Buffer.alloc(1024 * 1024);

export interface TarOptions {
  /** Subject of error messages. */
  readonly subject?: string;
  /** Maximum bytes of headers that describe a member. Default {@link DEFAULT_MAX_PAX}. */
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
  S: 'reg', // sparse, GNU
};

/** Entries that describe the next entry. `K` and `L` are GNU's long link target and long name. */
type MetaType = 'x' | 'K' | 'L';
const isMeta = (typeflag: string): typeflag is MetaType => 'xKL'.includes(typeflag);

export class TarParser {
  readonly #handler: TarHandler;
  readonly #subject: string;
  readonly #maxPax: number;

  /**
   * `body`: the parser collects bytes of an extended header. `map`: blocks of a sparse map. `hole`: zeros that the tar
   * does not hold. `ended`: two zero blocks were seen.
   */
  #state: 'header' | 'content' | 'hole' | 'skip' | 'padding' | 'body' | 'map' | 'ended' = 'header';
  /** Bytes left in the current state. */
  #left = 0;
  /** Content bytes of the current file after those of the current state. */
  #behind = 0;
  /** Zero bytes that pad the current content or body to a whole block. */
  #padding = 0;
  /** Bytes of the tar consumed so far, for error messages. */
  #offset = 0;
  #sawZeroBlock = false;

  #meta: { type: MetaType; bytes: Buffer } | null = null;
  /** Bytes of the headers that describe the next member. */
  #described = 0;
  #pax: PaxRecords | null = null;
  #longName: ByteString | null = null;
  #longLink: ByteString | null = null;
  /** The current sparse file: `stored` bytes of it are in the tar, `next` is the index of its next part. */
  #sparse: { readonly map: SparseMap; readonly entry: TarEntry; stored: number; next: number } | null = null;

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
      const consumed = this.#step(buffer, at, end);
      if (consumed === null) return at;
      at += consumed;
      this.#offset += consumed;
    }
  }

  /**
   * For readers that can seek: bytes left of the current content and its padding. The parser skips them without a push; the
   * next push must begin after them.
   */
  passOver(): number {
    const length = { content: this.#left + this.#padding, skip: this.#left + this.#padding, padding: this.#left };
    const passed = this.#state in length ? length[this.#state as keyof typeof length] : 0;
    if (passed === 0) return 0;
    this.#state = 'header';
    this.#left = 0;
    this.#offset += passed;
    return passed;
  }

  /**
   * Ends the input, of which `unconsumed` bytes are left. Throws FormatError when the tar ends inside a header or content.
   * The last member may lack its padding, and the end its zero blocks.
   */
  finish(unconsumed: number): void {
    if (unconsumed === 0 && ['header', 'padding', 'ended'].includes(this.#state)) return;
    throw new FormatError('tar', 'truncated', { subject: this.#subject, offset: this.#offset });
  }

  /** Whether the handler has not consumed all of a hole yet. The next push offers more of it, and needs no input. */
  get isInHole(): boolean {
    return this.#state === 'hole';
  }

  /** One step. Returns the bytes it consumed; null when it needs more input, or the handler consumed nothing. */
  #step(buffer: Buffer, at: number, end: number): number | null {
    switch (this.#state) {
      case 'header':
      case 'map':
        if (end - at < BLOCK) return null;
        if (this.#state === 'map') this.#addToMap(buffer, at);
        else this.#header(buffer, at);
        return BLOCK;
      case 'hole': {
        const taken = this.#hole();
        this.#advance(taken);
        return taken === 0 ? null : 0;
      }
      case 'content': {
        const available = Math.min(this.#left, end - at);
        if (available === 0) return null;
        const taken = this.#handler.content(buffer, at, available, this.#left + this.#behind);
        this.#advance(taken);
        return taken === 0 ? null : taken;
      }
      case 'skip':
      case 'padding': {
        const skipped = Math.min(this.#left, end - at);
        if (skipped === 0) return null;
        this.#left -= skipped;
        if (this.#left === 0 && this.#state === 'padding') this.#state = 'header';
        else if (this.#left === 0) this.#pad();
        return skipped;
      }
      case 'body':
        return this.#collect(buffer, at, end);
      case 'ended':
        return at === end ? null : end - at;
    }
  }

  #hole(): number {
    const remaining = this.#left + this.#behind;
    if (this.#handler.hole !== undefined) return this.#handler.hole(this.#left, remaining);
    return this.#handler.content(ZEROS, 0, Math.min(this.#left, ZEROS.length), remaining);
  }

  #advance(taken: number): void {
    this.#left -= taken;
    if (this.#left > 0) return;
    if (this.#sparse === null) this.#pad();
    else this.#nextPart();
  }

  #pad(): void {
    this.#left = this.#padding;
    this.#state = this.#left === 0 ? 'header' : 'padding';
  }

  #header(buffer: Buffer, at: number): void {
    if (buffer[at] === 0 && isZeroBlock(buffer, at)) {
      if (this.#sawZeroBlock) this.#state = 'ended';
      this.#sawZeroBlock = true;
      return;
    }
    if (this.#sawZeroBlock) throw this.#bad('tar', 'a single zero block before another member');
    const raw = decodeHeader(buffer, at, this.#offset, this.#subject);
    if (isMeta(raw.typeflag)) this.#beginMeta(raw.typeflag, raw.size);
    else this.#entry(raw, buffer, at);
  }

  #beginMeta(type: MetaType, size: number): void {
    const field = type === 'x' ? 'pax header' : 'GNU long name';
    const limit = type === 'x' ? this.#maxPax : MAX_PATH + 1;
    if (size < 0 || size > limit) throw this.#bad(field, `${size} bytes, longer than ${limit} bytes`);
    this.#described += size;
    if (this.#described > this.#maxPax) {
      throw this.#bad(field, `more than ${this.#maxPax} bytes of headers describe one member`);
    }
    this.#meta = { type, bytes: Buffer.allocUnsafe(size) };
    this.#padding = paddingOf(size);
    this.#left = size;
    this.#state = 'body';
    if (size === 0) this.#endMeta();
  }

  #collect(buffer: Buffer, at: number, end: number): number | null {
    const taken = Math.min(this.#left, end - at);
    if (taken === 0) return null;
    const { bytes } = this.#meta!;
    buffer.copy(bytes, bytes.length - this.#left, at, at + taken);
    this.#left -= taken;
    if (this.#left === 0) this.#endMeta();
    return taken;
  }

  /** Keeps a header that describes the next member. Of several of one kind, the last one counts. */
  #endMeta(): void {
    const { type, bytes } = this.#meta!;
    this.#meta = null;
    this.#pad();
    if (type === 'x') {
      this.#pax = parsePax(bytes, this.#subject);
      return;
    }
    const nul = bytes.indexOf(0);
    const text = bytes.toString('latin1', 0, nul < 0 ? bytes.length : nul);
    if (type === 'L') this.#longName = text;
    else this.#longLink = text;
  }

  #entry(raw: RawHeader, buffer: Buffer, at: number): void {
    const pax = this.#pax ?? NO_RECORDS;
    const longName = this.#longName || pax.get('path') || raw.name;
    const link = this.#longLink || pax.get('linkpath') || raw.linkName;
    this.#pax = this.#longName = this.#longLink = null;
    this.#described = 0;
    const type = raw.typeflag === '\0' && longName.endsWith('/') ? 'dir' : TYPES[raw.typeflag];
    // Only files have content; the size of other types is ignored.
    const hasContent = type === undefined || type === 'reg';
    const size = pax.get('size');
    const stored = !hasContent ? 0 : size ? paxNumber(size, 'size', this.#subject) : raw.size;
    if (stored < 0) throw this.#bad('tar size', 'negative');
    this.#padding = paddingOf(stored);
    this.#left = stored;
    if (type === undefined) {
      this.#passOverUnknown(raw.typeflag, longName);
      return;
    }
    const map = type === 'reg' ? this.#sparseMap(raw, pax, stored, buffer, at) : null;
    const name = (map === null ? null : pax.get('GNU.sparse.name')) || longName;
    const entry: TarEntry = {
      name: normalizePath(name, 'tar name', this.#subject),
      type,
      linkName: this.#linkName(type, name, link),
      mode: raw.mode & 0o7777,
      uid: idOf(pax.get('uid'), 'uid', raw.uid, this.#subject),
      gid: idOf(pax.get('gid'), 'gid', raw.gid, this.#subject),
      size: map?.size ?? stored,
      mtime: timeOf(pax.get('mtime'), raw.mtime, this.#subject),
      rdev: type === 'char' || type === 'block' ? deviceOf(raw) : null,
      xattrs: xattrsOf(pax),
    };
    if (map !== null) {
      this.#sparse = { map, entry, stored, next: 0 };
      this.#state = 'map';
      if (map.isWhole) this.#beginSparse();
      return;
    }
    this.#state = 'content';
    if (stored === 0) this.#pad();
    this.#handler.entry(entry, false);
  }

  /** Skips a global header or unknown member, as docker and containerd do. Headers before it described it, so they are dropped. */
  #passOverUnknown(typeflag: string, name: ByteString): void {
    if (typeflag === 'M') {
      throw new LacunaError('UNSUPPORTED', `${quote(name)} is continued from another volume of the tar`, {
        subject: this.#subject,
      });
    }
    this.#state = 'skip';
    if (this.#left === 0) this.#pad();
  }

  #sparseMap(raw: RawHeader, pax: PaxRecords, stored: number, buffer: Buffer, at: number): SparseMap | null {
    if (raw.typeflag !== 'S') return paxSparseMap(pax, stored, this.#subject);
    if (!isGnuHeader(buffer, at)) throw this.#bad('tar type', 'a sparse member must have a GNU header');
    return oldSparseMap(buffer, at, this.#subject);
  }

  #addToMap(buffer: Buffer, at: number): void {
    const sparse = this.#sparse!;
    if (sparse.map.isContent) sparse.stored -= BLOCK;
    if (sparse.stored < 0) throw this.#bad('sparse map', 'does not end within the content of its member');
    sparse.map.add(buffer, at);
    if (sparse.map.isWhole) this.#beginSparse();
  }

  #beginSparse(): void {
    const { map, entry, stored } = this.#sparse!;
    let held = 0;
    for (let i = 1; i < map.parts.length; i += 2) held += map.parts[i]!;
    if (held !== stored) throw this.#bad('sparse map', `the parts have ${held} bytes, but the member has ${stored}`);
    this.#handler.entry(entry, true);
    this.#behind = entry.size;
    this.#nextPart();
  }

  /** Continues with the next part, or with the hole before it. */
  #nextPart(): void {
    const sparse = this.#sparse!;
    const { parts, size } = sparse.map;
    const at = size - this.#behind;
    while (parts[sparse.next + 1] === 0) sparse.next += 2;
    const start = parts[sparse.next] ?? size;
    this.#state = at < start ? 'hole' : 'content';
    this.#left = at < start ? start - at : (parts[sparse.next + 1] ?? 0);
    this.#behind -= this.#left;
    if (at === start) sparse.next += 2;
    if (this.#left > 0) return;
    this.#sparse = null;
    this.#pad();
  }

  #linkName(type: TarType, name: ByteString, link: ByteString): ByteString | null {
    if (type === 'hardlink') return normalizePath(link, 'tar link name', this.#subject);
    if (type !== 'symlink') return null;
    if (link === '' || link.length >= MAX_PATH || link.includes('\0')) {
      throw this.#bad(
        'tar link name',
        `the target of ${quote(name)} is empty, contains a NUL, or is longer than ${MAX_PATH - 1} bytes`,
      );
    }
    return link;
  }

  #bad(field: string, problem: string): FormatError {
    return new FormatError(field, problem, { subject: this.#subject, offset: this.#offset });
  }
}

const NO_RECORDS: PaxRecords = new Map();

const paddingOf = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/** User or group id. The value 2^32 − 1 is not an id for chown(2), so the file stays owned by root. */
function idOf(pax: ByteString | undefined, key: string, raw: number, subject: string): number {
  const id = pax ? paxId(pax, key, subject) : raw;
  return id === 0xffff_ffff ? 0 : id;
}

const timeOf = (pax: ByteString | undefined, raw: number, subject: string): Mtime =>
  pax ? paxTime(pax, subject) : boundTime(raw, 0);

/** Device number as mknod(2) takes it: 12 and 20 bits. */
const deviceOf = ({ rdevMajor, rdevMinor }: RawHeader): { major: number; minor: number } => ({
  major: rdevMajor & 0xfff,
  minor: rdevMinor & 0xfffff,
});

function xattrsOf(records: PaxRecords): Map<ByteString, Buffer> | null {
  let found: Map<ByteString, Buffer> | null = null;
  for (const [key, value] of records) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    found ??= new Map();
    found.set(key.slice(XATTR_PREFIX.length), Buffer.from(value, 'latin1'));
  }
  return found;
}
