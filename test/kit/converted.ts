/** What a conversion left in an OCI layout, read without any code of the converter. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { openBootstrap, type RafsImage } from '../../src/formats/rafs/open.ts';
import { decodeChunk } from './rafs.ts';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: unknown;
}

export interface Converted {
  readonly manifest: {
    readonly mediaType: string;
    readonly config: Descriptor;
    readonly layers: readonly Descriptor[];
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly config: {
    readonly rootfs: { readonly diff_ids: readonly string[] };
    readonly history: ReadonlyArray<{ readonly empty_layer?: boolean; readonly created_by?: string }>;
    readonly [field: string]: unknown;
  };
  /** Name → content of the members of the bootstrap layer's tar, in its order. */
  readonly members: ReadonlyMap<string, Buffer>;
  readonly bootstrap: Buffer;
  /** A blob's `blob.meta` by its id, as far as the bootstrap's layer has it. */
  readonly metas: ReadonlyMap<string, Buffer>;
  readonly rafs: RafsImage;
  /** A folder with every blob under its hex id. */
  readonly blobDir: string;
}

export const layoutBlobPath = (dir: string, digest: string): string => join(dir, 'blobs', ...digest.split(':'));
export const readLayoutBlob = (dir: string, digest: string): Buffer => readFileSync(layoutBlobPath(dir, digest));
export const readLayoutJson = (dir: string, digest: string) => JSON.parse(readLayoutBlob(dir, digest).toString());

/** The digest that a ref name of a layout stands for. */
export function refDigest(dir: string, ref: string): string {
  const { manifests } = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  return manifests.find((entry) => entry.annotations?.['org.opencontainers.image.ref.name'] === ref)!.digest;
}

export function readConverted(dir: string, digest: string): Converted {
  const manifest = readLayoutJson(dir, digest) as Converted['manifest'];
  const config = readLayoutJson(dir, manifest.config.digest) as Converted['config'];
  const members = tarMembers(gunzipSync(readLayoutBlob(dir, manifest.layers.at(-1)!.digest)));
  const bootstrap = members.get('image/image.boot')!;
  const metas = new Map<string, Buffer>();
  for (const [name, data] of members) {
    const id = /^image\/(.*)\.blob\.meta$/.exec(name)?.[1];
    if (id !== undefined) metas.set(id, data);
  }
  const rafs = openBootstrap(bootstrap, { subject: digest, metas });
  return { manifest, config, members, bootstrap, metas, rafs, blobDir: join(dir, 'blobs', 'sha256') };
}

/** Plain ustar members only. */
function tarMembers(tar: Buffer): Map<string, Buffer> {
  const members = new Map<string, Buffer>();
  for (let at = 0; tar[at] !== 0; ) {
    const name = tar.toString('latin1', at, tar.indexOf(0, at));
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8);
    members.set(name, tar.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return members;
}

/** Writes bootstrap and plain device files for the kernel into `dir`. Every chunk is checked against its digest. */
export function writeDevices(image: Converted, dir: string): { bootstrap: string; devices: string[] } {
  const bootstrap = join(dir, 'bootstrap');
  writeFileSync(bootstrap, image.bootstrap);
  const devices = image.rafs.blobs.map(({ id }, index) => {
    const blob = readFileSync(join(image.blobDir, id));
    const device = Buffer.alloc(image.rafs.deviceSize(index));
    for (const chunk of image.rafs.chunksOf(index)) decodeChunk(chunk, blob).copy(device, chunk.uncompressedOffset);
    const path = join(dir, `device-${index}`);
    writeFileSync(path, device);
    return path;
  });
  return { bootstrap, devices };
}

/** Every file of a layout with its content's place: to see that nothing was changed or left behind. */
export const filesOf = (dir: string): string[] => (readdirSync(dir, { recursive: true }) as string[]).sort();
