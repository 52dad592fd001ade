/** Checks of local files: a bootstrap, and a folder of blobs named by their ids. */
import { basename, dirname, join } from 'node:path';
import { fileSource } from '../blob/source.ts';
import { toLacunaError } from '../errors.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { isSha256Hex } from '../image/digest.ts';
import type { RafsReference } from '../image/reference.ts';
import { readRegular, sizeOfRegular } from '../open-file.ts';
import type { BlobLocation, BlobLocations, BlobOptions } from './blob-location.ts';
import type { CheckedBlob } from './blob-table.ts';
import { checkBlobs } from './blobs.ts';
import { checkBootstrap } from './bootstrap.ts';
import type { Findings } from './findings.ts';
import type { CheckedImage } from './report.ts';

/** Checks local files. Throws when the bootstrap cannot be read; every other problem is recorded. */
export async function checkRafsFiles(
  reference: RafsReference,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedImage> {
  const { bootstrap: path } = reference;
  const bytes = await readRegular(path, MAX_BOOTSTRAP_SIZE, { op: 'open' });
  const stem = basename(path).replace(/\.boot$/, '');
  const blobId = isSha256Hex(stem) ? stem : null;
  const bootstrap = checkBootstrap(bytes, findings.forSubject('bootstrap'), { blobId });
  const image = {
    digest: null,
    kind: 'lazy',
    layers: 0,
    layersSize: 0,
    inodes: 0,
    names: 0,
    chunks: 0,
    blobs: [],
  } as const;
  if (bootstrap === null) return { ...image, kind: 'unknown' };
  const blobs = await checkBlobs(bootstrap, filePlaces(reference.blobs ?? dirname(path), findings), findings, options);
  const { inodes, names, chunks } = bootstrap;
  return { ...image, inodes, names, chunks: chunks.entries.length, blobs };
}

function filePlaces(directory: string, findings: Findings): BlobLocations {
  const place = async (name: string, subject: string, field: string): Promise<BlobLocation | null> => {
    const path = join(directory, name);
    try {
      const size = await sizeOfRegular(path, { op: 'open', within: directory });
      return { source: fileSource(path, directory), size };
    } catch (cause) {
      const hint = 'blobs must lie in the folder of the bootstrap, or in that of ,blobs=DIR';
      findings
        .forSubject(subject)
        .recordError(toLacunaError(cause, { op: 'open', subject: path }), field, null, { hint });
      return null;
    }
  };
  return {
    data: (blob) => place(blob.id, `blob ${blob.id}`, 'blob_id'),
    meta: (blob: CheckedBlob) => {
      const isElsewhere = (blob.features & FEATURE.SEPARATE) !== 0 && blob.metaDigest !== null;
      const name = isElsewhere ? blob.metaDigest.toString('hex') : blob.id;
      return place(name, `blob ${blob.id}`, isElsewhere ? 'blob_meta_digest' : 'blob_id');
    },
    packedMeta: () => null,
  };
}
