/** A process of its own that writes into a layout: `DIR push PREFIX COUNT`, or `DIR hang` in the middle of a blob. */
import { randomBytes } from 'node:crypto';
import { digestOf } from '../../../dist/image/digest.js';
import { MEDIA } from '../../../dist/image/media.js';
import { openStore } from '../../../dist/registry/open.js';

const [path, what, prefix, count] = process.argv.slice(2);
const store = await openStore({ transport: 'oci', path, ref: null }, { create: true });

if (what === 'hang') {
  const upload = await store.upload();
  await upload.write(randomBytes(1000));
  console.log('in the middle');
  setInterval(() => {}, 1000);
} else {
  for (let i = 0; i < Number(count); i++) {
    const config = Buffer.from(`{"i":"${prefix}${i}"}`);
    const upload = await store.upload();
    await upload.write(config);
    await upload.commit(digestOf(config), config.length);
    const descriptor = { mediaType: MEDIA.ociConfig, digest: digestOf(config), size: config.length };
    const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config: descriptor, layers: [] };
    await store.pushManifest(Buffer.from(JSON.stringify(manifest)), MEDIA.ociManifest, `${prefix}.${i}`);
  }
  await store[Symbol.asyncDispose]();
}
