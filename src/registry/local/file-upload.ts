/** Upload of a blob into a store of files: a temporary file, hashed while it is written, renamed when it is correct. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { dirname } from 'node:path';
import { LacunaError } from '../../errors.ts';
import { digestOf, hasherFor, isDigest, parseDigest } from '../../image/digest.ts';
import type { Descriptor } from '../../image/manifest.ts';
import { makeDirectory } from '../../make-directory.ts';
import { abortError, isAborted } from '../http/transport.ts';
import type { BlobUpload } from '../store.ts';
import { Temporary } from './layout-temporary.ts';

const OP = 'write blob';

/** The descriptor of a manifest that is pushed as `ref`. DIGEST_MISMATCH when `ref` is the digest of another one. */
export function describeManifest(bytes: Buffer, mediaType: string, ref: string | null, subject: string): Descriptor {
  const expected = ref !== null && isDigest(ref) ? ref : null;
  const digest = digestOf(bytes, expected === null ? 'sha256' : parseDigest(expected).algorithm);
  if (expected === null || expected === digest) return { mediaType, digest, size: bytes.length };
  throw new LacunaError('DIGEST_MISMATCH', `the manifest ${expected} hashes to ${digest}`, {
    op: 'push',
    subject,
  });
}

export interface FileUploadOptions {
  /** Directory of the store, which also contains the unfinished file. */
  readonly dir: string;
  /** Path of the blob. */
  readonly pathOf: (digest: string) => string;
  readonly signal: AbortSignal | null;
  /** Called once, when the upload was committed or aborted. */
  readonly onEnd: (upload: FileUpload) => void;
}

export class FileUpload implements BlobUpload {
  readonly #options: FileUploadOptions;
  readonly #hash: Hash = createHash('sha256');
  #opening: Promise<Temporary> | null = null;
  #size = 0;
  #isOver = false;

  constructor(options: FileUploadOptions) {
    this.#options = options;
  }

  async write(data: Buffer): Promise<void> {
    const { file } = await this.#open();
    for (let at = 0; at < data.length; ) {
      const { bytesWritten } = await file.write(data, at, data.length - at);
      at += bytesWritten;
    }
    this.#hash.update(data);
    this.#size += data.length;
  }

  async commit(digest: string, size: number): Promise<void> {
    try {
      const temporary = await this.#open();
      await this.#check(digest, size, temporary.path);
      const target = this.#options.pathOf(digest);
      await makeDirectory(dirname(target));
      await temporary.commitAs(target);
    } finally {
      // After the rename only the folder is left to remove.
      await this.abort();
    }
  }

  async abort(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      // A write may be opening the file right now: a store can be closed while others use it.
      await (await this.#opening)?.[Symbol.asyncDispose]();
    } catch {
      // The file was never created, or the next run removes it.
    }
    this.#options.onEnd(this);
  }

  async #open(): Promise<Temporary> {
    const { dir, signal } = this.#options;
    if (isAborted(signal)) throw abortError(signal, OP, dir);
    if (this.#isOver) throw new LacunaError('INTERNAL', 'the upload has ended', { op: OP, subject: dir });
    this.#opening ??= Temporary.create(dir);
    const temporary = await this.#opening;
    if (this.#isOver) throw new LacunaError('ABORTED', 'the upload was aborted', { op: OP, subject: dir });
    return temporary;
  }

  async #check(digest: string, size: number, path: string): Promise<void> {
    if (this.#size !== size) {
      throw new LacunaError('SIZE_MISMATCH', `${this.#size} bytes were written and ${size} announced`, {
        op: OP,
        subject: digest,
      });
    }
    const { algorithm } = parseDigest(digest);
    // The algorithm is known only now. Others than SHA-256 are rare, and the file is read again for them.
    const hash = algorithm === 'sha256' ? this.#hash : await hashFile(path, hasherFor(digest));
    const actual = `${algorithm}:${hash.digest('hex')}`;
    if (actual === digest) return;
    throw new LacunaError('DIGEST_MISMATCH', `the bytes written hash to ${actual}`, {
      op: OP,
      subject: digest,
    });
  }
}

async function hashFile(path: string, hash: Hash): Promise<Hash> {
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash;
}
