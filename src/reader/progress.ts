/** Progress of reading, with few events however small the steps are. */
import type { OnProgress, Progress } from '../observe/progress.ts';
import type { ImageStore } from '../registry/store.ts';
import type { LayerSource } from './layer-stream.ts';

const EVENTS = 200;

/** Takes what was done since the last call; calls `onProgress` at every half per cent, and at the end. */
export function progressOf(
  onProgress: OnProgress | undefined,
  work: Omit<Progress, 'done'> & { readonly total: number },
): (done: number) => void {
  if (onProgress === undefined) return () => {};
  let done = 0;
  let reported = -1;
  return (more) => {
    done += more;
    const step = work.total === 0 ? EVENTS : Math.floor((done / work.total) * EVENTS);
    if (step === reported) return;
    reported = step;
    onProgress({ ...work, done });
  };
}

/** The same pieces; calls `onProgress` with the bytes of `digest` so far. */
export async function* reportingPieces(
  pieces: AsyncIterable<Buffer>,
  onProgress: OnProgress | undefined,
  { phase, digest, total }: { readonly phase: string; readonly digest: string; readonly total: number },
): AsyncGenerator<Buffer> {
  const subject = digest.replace(/^sha\d+:/, '').slice(0, 12);
  const progress = progressOf(onProgress, { phase, subject, total, unit: 'bytes' });
  for await (const piece of pieces) {
    progress(piece.length);
    yield piece;
  }
}

/** The store; calls `onProgress` with the bytes of each layer so far. */
export const reportingStore = (store: ImageStore, phase: string, onProgress?: OnProgress): LayerSource => ({
  open: (layer, options) =>
    reportingPieces(store.open(layer, options), onProgress, { phase, digest: layer.digest, total: layer.size }),
});
