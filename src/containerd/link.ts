/** Direct calls to the snapshotter: how to reach the registry, and which bootstrap it will need. */
import { LacunaError, toLacunaError } from '../errors.ts';
import { unixChannel } from '../grpc/unix.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { DockerReference } from '../image/reference.ts';
import { errorRow, type Log, silentLog } from '../observe/log.ts';
import { lacunaService } from '../snapshotter/service.ts';
import type { Containerd } from './client.ts';
import { DEFAULT_SNAPSHOTTER, type PullOptions } from './options.ts';

export interface SnapshotterLink {
  /** Makes the snapshotter fetch the bootstrap; resolves with the bytes fetched, 0 when cached, null after a failure. */
  expect(image: string, layer: Descriptor): Promise<number | null>;
  close(): void;
}

interface LinkOptions extends PullOptions {
  readonly reference: DockerReference;
}

/**
 * Null when the snapshotter is not Lacuna's: built into containerd, or one that does not answer to these calls.
 * NOT_FOUND when containerd has no snapshotter of this name.
 */
export async function linkSnapshotter(containerd: Containerd, options: LinkOptions): Promise<SnapshotterLink | null> {
  const { snapshotter = DEFAULT_SNAPSHOTTER, snapshotterAddress, reference, log = silentLog } = options;
  const [address, credentials] = await Promise.all([
    snapshotterAddress ?? findAddress(containerd, snapshotter),
    options.credentials?.(reference.host) ?? null,
  ]);
  if (address === null) return null;
  const channel = unixChannel(address.replace(/^unix:\/\//, ''), lacunaService());
  try {
    await channel.call('SetRegistry', {
      host: reference.host,
      ...credentials,
      ...(options.plainHttp === undefined ? {} : { plainHttp: options.plainHttp }),
    });
  } catch (error) {
    channel.close();
    if (toLacunaError(error).code === 'UNSUPPORTED') return null;
    throw error;
  }
  return {
    async expect(image, { digest, mediaType, size }) {
      try {
        const request = { image, layer: digest, mediaType, size };
        const { known } = await channel.call('Expect', request);
        return known ? 0 : size;
      } catch (error) {
        note(log, error);
        return null;
      }
    },
    close: () => channel.close(),
  };
}

/** Without an announcement Prepare fetches the bootstrap, once containerd has the manifest. */
function note(log: Log, error: unknown): void {
  log.debug(
    { error: errorRow(error) },
    'cannot announce the bootstrap; it is fetched when containerd prepares the snapshot',
  );
}

/** Null: built into containerd. */
async function findAddress(containerd: Containerd, snapshotter: string): Promise<string | null> {
  const found = await containerd.plugins(`type==io.containerd.snapshotter.v1,id==${snapshotter}`);
  if (found[0] !== undefined) return found[0].exports.address ?? null;
  throw new LacunaError('NOT_FOUND', `containerd has no snapshotter named ${snapshotter}`, {
    op: 'pull',
    hint: "name it in [proxy_plugins] of containerd's configuration, or choose another one with --snapshotter",
  });
}
