/** Checks of tar layers: sizes, digests, and the members of a bootstrap layer. */
import { createHash } from 'node:crypto';
import { MAX_BOOTSTRAP_LAYER, MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { hasherFor } from '../image/digest.ts';
import type { Descriptor } from '../image/manifest.ts';
import { META_MEMBER } from '../reader/bootstrap.ts';
import { type LayerSource, type ParseOptions, parseLayerTar } from '../reader/layer-stream.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import type { TarHandler } from '../tree/tar.ts';
import type { Findings } from './findings.ts';

/** Members of a bootstrap layer, the last layer of a lazy image. */
export interface BootstrapMembers {
  readonly bootstrap: Buffer | null;
  /** Hex of `image/<hex>.blob.meta` → its bytes. */
  readonly metas: ReadonlyMap<string, Buffer>;
}

const BOOTSTRAP = 'image/image.boot';

/** Reads the bootstrap layer whole. `diffId`: its diff ID in the config. */
export async function checkBootstrapLayer(
  store: ImageStore,
  layer: Descriptor,
  diffId: string | null,
  findings: Findings,
  options: SignalOptions,
): Promise<BootstrapMembers> {
  const members = new Map<string, Buffer[]>();
  let pieces: Buffer[] | null = null;
  let total = 0;
  const handler: TarHandler = {
    entry({ name, type, size }) {
      pieces = null;
      if (type !== 'reg' || !(name === BOOTSTRAP || META_MEMBER.test(name))) return;
      total += size;
      if (total > MAX_BOOTSTRAP_SIZE) {
        findings.error(name, null, `${size} bytes exceed the maximum`);
        return;
      }
      if (members.has(name)) findings.error(name, null, 'duplicate member of the layer');
      pieces = [];
      members.set(name, pieces);
    },
    content(buffer, start, available) {
      pieces?.push(Buffer.from(buffer.subarray(start, start + available)));
      return available;
    },
    hole(length) {
      pieces?.push(Buffer.alloc(length));
      return length;
    },
  };
  await checkTar(store, layer, diffId, handler, findings, { ...options, maxTar: MAX_BOOTSTRAP_LAYER });
  const metas = new Map<string, Buffer>();
  for (const [name, parts] of members) {
    const hex = META_MEMBER.exec(name)?.[1];
    if (hex !== undefined) metas.set(hex, Buffer.concat(parts));
  }
  const bootstrap = members.get(BOOTSTRAP);
  if (bootstrap === undefined) findings.error(BOOTSTRAP, null, 'missing from the layer');
  return { bootstrap: bootstrap === undefined ? null : Buffer.concat(bootstrap), metas };
}

const IGNORE: TarHandler = { entry() {}, content: (_buffer, _start, available) => available, hole: (length) => length };

/** Reads a tar layer whole, and checks its digest, its tar and the tar's digest. `diffId`: null when the config has none. */
export async function checkTar(
  store: LayerSource,
  layer: Descriptor,
  diffId: string | null,
  handler: TarHandler | null,
  findings: Findings,
  options: Pick<ParseOptions, 'signal' | 'maxTar'>,
): Promise<void> {
  const hash = diffId === null ? createHash('sha256') : hasherFor(diffId);
  try {
    await parseLayerTar(store, layer, handler ?? IGNORE, { ...options, onTar: (piece) => hash.update(piece) });
  } catch (error) {
    findings.recordError(error, 'layer');
    return;
  }
  const found = `${diffId?.split(':')[0]}:${hash.digest('hex')}`;
  if (diffId === null || found === diffId) return;
  findings.error('rootfs.diff_ids', null, `${diffId} in the config, but the tar has ${found}`, {
    code: 'DIGEST_MISMATCH',
  });
}

/** Whether a layer exists and has the size of its descriptor. The layer is not read. */
export async function checkPresence(
  store: ImageStore,
  descriptor: Descriptor,
  field: string,
  findings: Findings,
  options: SignalOptions,
): Promise<boolean> {
  if (await store.has(descriptor, options)) return true;
  if (descriptor.urls !== undefined && descriptor.urls.length > 0) return false;
  try {
    // Reading the first byte gives the error of the store.
    const first = { offset: 0, length: Math.min(1, descriptor.size), ...options };
    for await (const _ of store.open(descriptor, first));
    findings.error(field, null, `${descriptor.digest} does not exist`, { code: 'NOT_FOUND' });
  } catch (error) {
    findings.recordError(error, field);
  }
  return false;
}
