/** What the registry of the tests holds, in memory. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface StoredManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface StoredDescriptor {
  mediaType: string;
  digest: string;
  size: number;
}

export class Repository {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, StoredManifest>();
  readonly tags = new Map<string, string>();

  manifest(ref: string): (StoredManifest & { digest: string }) | null {
    const digest = this.tags.get(ref) ?? ref;
    const found = this.manifests.get(digest);
    return found === undefined ? null : { ...found, digest };
  }
}

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** The digest of `bytes`, made with the algorithm of `digest`. */
export function digestLike(digest: string, bytes: Uint8Array): string {
  const algorithm = digest.startsWith('sha512:') ? 'sha512' : 'sha256';
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

export class Storage {
  readonly repositories = new Map<string, Repository>();

  repository(name: string): Repository {
    const found = this.repositories.get(name) ?? new Repository();
    this.repositories.set(name, found);
    return found;
  }

  putBlob(name: string, bytes: Buffer, mediaType = 'application/octet-stream'): StoredDescriptor {
    const digest = sha256(bytes);
    this.repository(name).blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  /** `like`: a digest of the algorithm that names it, default sha256. */
  putManifest(name: string, mediaType: string, bytes: Buffer, tag?: string, like = ''): StoredDescriptor {
    const digest = digestLike(like, bytes);
    const repository = this.repository(name);
    repository.manifests.set(digest, { mediaType, bytes });
    if (tag !== undefined) repository.tags.set(tag, digest);
    return { mediaType, digest, size: bytes.length };
  }

  /** Everything of an OCI layout; its ref names become tags. */
  putLayout(name: string, dir: string): void {
    const blob = (digest: string): Buffer => readFileSync(join(dir, 'blobs', ...digest.split(':')));
    const index = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8'));
    const put = (entry: StoredDescriptor & { annotations?: Record<string, string> }, tag?: string): void => {
      const bytes = blob(entry.digest);
      const repository = this.repository(name);
      repository.manifests.set(entry.digest, { mediaType: entry.mediaType, bytes });
      if (tag !== undefined) repository.tags.set(tag, entry.digest);
      const document = JSON.parse(bytes.toString('utf8'));
      for (const child of document.manifests ?? []) put(child);
      const { config, layers = [] } = document;
      for (const part of config === undefined ? [] : [config, ...layers]) {
        repository.blobs.set(part.digest, blob(part.digest));
      }
    };
    for (const entry of index.manifests) put(entry, entry.annotations?.['org.opencontainers.image.ref.name']);
  }
}
