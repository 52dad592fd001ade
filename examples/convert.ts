/** Converts an image and shows the progress of each layer. usage: convert SOURCE TARGET */
import { convert, isLacunaError, type Progress, storedCredentials } from 'lacuna';

const [source, target] = process.argv.slice(2);
if (source === undefined || target === undefined) throw new Error('usage: convert SOURCE TARGET');

/** Events arrive for every piece of data; a line for every tenth of the work is enough. */
const shown = new Map<string, number>();
function onProgress({ phase, subject, done, total, unit }: Progress): void {
  if (total === null) return;
  const key = `${phase} ${subject}`;
  const tenth = total === 0 ? 10 : Math.floor((done * 10) / total);
  if (shown.get(key) === tenth) return;
  shown.set(key, tenth);
  console.error(`${key}: ${tenth * 10} % of ${total} ${unit}`);
}

// The library uses no login unless it is given one. These are the logins of docker, podman and skopeo.
const registry = { credentials: storedCredentials() };
const abort = new AbortController();
process.once('SIGINT', () => abort.abort());

try {
  const options = { source: registry, target: registry, onProgress, signal: abort.signal };
  const { digest, images, transfer } = await convert(source, target, options);
  for (const { platform, layers, blobs } of images) {
    console.log(`${platform}: ${layers.length} layers became ${blobs.length} blobs`);
  }
  console.log(`${digest}: ${transfer.uploaded} bytes uploaded`);
} catch (error) {
  if (!isLacunaError(error)) throw error;
  console.error(`${error.code}: ${error.message}${error.hint === null ? '' : ` (${error.hint})`}`);
  process.exitCode = 1;
}
