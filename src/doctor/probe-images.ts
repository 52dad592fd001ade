/** The images that the daemon of a root has attached, and those that it could not attach again. */
import { connectDaemon } from '../daemon/client.ts';
import { type Finding, ok, type ProbeResult, refused } from './probe-result.ts';

/** Milliseconds that a daemon has to answer. */
const PATIENCE = 2_000;

/** One row for each image that fails, or one for all; none where no daemon answers. */
export async function probeImages(root: string): Promise<ProbeResult[]> {
  try {
    using client = connectDaemon(root);
    const { images } = await client.status({ timeout: PATIENCE, waitForReady: false });
    const rows = images.filter(({ problem }) => problem !== '').map((image) => row(image.id, failed(image)));
    return rows.length > 0 ? rows : [row('', ok(`${images.length} attached`))];
  } catch {
    return [];
  }
}

const failed = ({ problem, hint }: { problem: string; hint: string }): Finding =>
  refused(`not attached, reads of it fail: ${problem}`, hint || null);

const row = (id: string, finding: Finding): ProbeResult => ({ name: id === '' ? 'images' : `image ${id}`, ...finding });
