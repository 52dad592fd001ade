/** Progress of reading: few events however small the steps are. */
import type { OnProgress, Progress } from '../observe/progress.ts';

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
