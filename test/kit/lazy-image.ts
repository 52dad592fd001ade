/** The lazy image of the fixtures as containerd itself would accept it. */
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A layout with the lazy manifest of `from` alone, its config of OCI's type: what plain containerd would pull. Its ref
 * is `retyped`.
 */
export function retype(from: string, to: string): void {
  cpSync(from, to, { recursive: true });
  const read = (digest: string) => JSON.parse(readFileSync(join(to, 'blobs', ...digest.split(':')), 'utf8'));
  const index = read(JSON.parse(readFileSync(join(to, 'index.json'), 'utf8')).manifests[0].digest);
  const manifest = read(index.manifests[1].digest);
  manifest.config.mediaType = 'application/vnd.oci.image.config.v1+json';
  const bytes = JSON.stringify(manifest);
  const hex = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(to, 'blobs', 'sha256', hex), bytes);
  const entry = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha256:${hex}`,
    size: bytes.length,
    annotations: { 'org.opencontainers.image.ref.name': 'retyped' },
  };
  writeFileSync(join(to, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}
