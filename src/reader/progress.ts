/** Progress of reading: few events however small the steps are. */
import type { OnProgress, Progress } from '../observe/progress.ts';
import type { ImageStore } from '../registry/store.ts';
import type { LayerSource } from './layer-stream.ts';

const EVENTS = 200;

/** Takes what was done since the last call; tells `onProgress` at every half per cent, and at the end. */
export function progressOf(
  onProgress: OnProgress | undefined,
  work: Omit<Progress, 'done'> & { readonly total: number },
): (done: number) => void {
  if (onProgress === undefined) return () => {};
  let done = 0;
  let told = -1;
  return (more) => {
    done += more;
    const step = work.total === 0 ? EVENTS : Math.floor((done / work.total) * EVENTS);
    if (step === told) return;
    told = step;
    onProgress({ ...work, done });
  };
}

/** The same pieces; `onProgress` hears how many bytes of `digest` have come. */
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

/** The store; `onProgress` hears how much of each layer has come. */
export const reportingStore = (store: ImageStore, phase: string, onProgress?: OnProgress): LayerSource => ({
  open: (layer, options) =>
    reportingPieces(store.open(layer, options), onProgress, { phase, digest: layer.digest, total: layer.size }),
});
