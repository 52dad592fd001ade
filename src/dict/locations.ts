/**
 * Where the blobs of a dictionary are: `docker://HOST/REPOSITORY`, `oci:DIR` (absolute), or `blobs:DIR` for a folder of
 * bare files. A location can mount or copy a blob into a target that lacks it.
 */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileSource } from '../blob/source.ts';
import type { Descriptor } from '../image/manifest.ts';
import { parseReference, type Reference } from '../image/reference.ts';
import { copyBlob } from '../registry/copy.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore, SignalOptions, StoreOptions } from '../registry/store.ts';
import { uploadBlob } from '../registry/upload-blob.ts';

const FOLDER = 'blobs:';

/** The place of a reference's blobs; null when it has none that lasts (an archive, a stream). */
export function locationOf(reference: Reference): string | null {
  switch (reference.transport) {
    case 'docker':
      return `docker://${reference.host}/${reference.repository}`;
    case 'oci':
      return `oci:${resolve(reference.path)}`;
    default:
      return null;
  }
}

/** The place of bare files, named by their ids. */
export const locationOfFolder = (path: string): string => `${FOLDER}${resolve(path)}`;

export interface Location extends AsyncDisposable {
  has(blob: Descriptor, options: SignalOptions): Promise<boolean>;
  /** Makes the blob the target's without moving it; false when that is not possible. */
  mountInto(to: ImageStore, blob: Descriptor, options: SignalOptions): Promise<boolean>;
  copyInto(to: ImageStore, blob: Descriptor, options: SignalOptions): Promise<void>;
}

/** Opens a place. No request is made yet. */
export async function openLocation(place: string, options: StoreOptions): Promise<Location> {
  if (place.startsWith(FOLDER)) return folderLocation(place.slice(FOLDER.length));
  const store = await openStore(parseReference(place), options);
  return {
    has: (blob, signal) => store.has(blob, signal),
    mountInto: (to, blob, signal) => to.mountFrom(blob, store, signal),
    copyInto: async (to, blob, signal) => {
      await copyBlob(store, to, blob, signal);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(store[Symbol.asyncDispose]()),
  };
}

function folderLocation(dir: string): Location {
  const pathOf = ({ digest }: Descriptor): string => join(dir, digest.replace(/^sha256:/, ''));
  return {
    has: async (blob) => {
      const found = await stat(pathOf(blob)).catch(() => null);
      return found?.isFile() === true && found.size === blob.size;
    },
    mountInto: async () => false,
    copyInto: async (to, blob, options) => {
      const signal = options.signal ?? new AbortController().signal;
      await uploadBlob(
        to,
        async (upload) => {
          for await (const piece of fileSource(pathOf(blob), dir).read(0, blob.size, signal)) await upload.write(piece);
          await upload.commit(blob.digest, blob.size);
        },
        options,
      );
    },
    [Symbol.asyncDispose]: async () => {},
  };
}
