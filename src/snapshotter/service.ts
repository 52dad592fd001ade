/** The gRPC services of the snapshotter: containerd's snapshots service, and the small one that `lacuna pull` calls. */

import type { Snapshots } from '../grpc/messages/snapshots.gen.ts';
import type { Snapshotter as LacunaApi } from '../grpc/messages/snapshotter.gen.ts';
import { type Handlers, loadService, type Methods, type TypedDefinition } from '../grpc/proto.ts';
import { serverStream, unary } from '../grpc/unix.ts';
import { callerOf } from './caller.ts';
import type { Images } from './images.ts';
import { type Mount, toWire } from './info.ts';
import type { Snapshotter } from './snapshotter.ts';

export interface Service<Methods_ extends Methods<Methods_>> {
  readonly definition: TypedDefinition<Methods_>;
  readonly handlers: Handlers<Methods_>;
}

/** Snapshots per message of a listing, as in containerd's own service. */
const LIST_BLOCK = 100;

export const snapshotsService = (): TypedDefinition<Snapshots> =>
  loadService('containerd/snapshots.proto', 'containerd.services.snapshots.v1.Snapshots');

export const lacunaService = (): TypedDefinition<LacunaApi> =>
  loadService('lacuna/snapshotter/v1/snapshotter.proto', 'lacuna.snapshotter.v1.Snapshotter');

const mountsResponse = (mounts: readonly Mount[]) => ({ mounts });

/** containerd's snapshots service. */
export function serveSnapshots(snapshotter: Snapshotter): Service<Snapshots> {
  return {
    definition: snapshotsService(),
    handlers: {
      Prepare: unary(async ({ key, parent, labels }, { pid, signal }) =>
        mountsResponse(await snapshotter.prepare(key, parent, labels, callerOf(pid, key), signal)),
      ),
      View: unary(async ({ key, parent, labels }) => mountsResponse(await snapshotter.view(key, parent, labels))),
      Mounts: unary(async ({ key }) => mountsResponse(await snapshotter.mounts(key))),
      Commit: unary(async ({ name, key, labels, parent }, { pid }) => {
        await snapshotter.commit(name, key, labels, parent, callerOf(pid, key));
        return {};
      }),
      Remove: unary(async ({ key }) => {
        await snapshotter.remove(key);
        return {};
      }),
      Stat: unary(({ key }) => ({ info: toWire(snapshotter.stat(key)) })),
      // Only name and labels of the message are used: other fields cannot change (containerd sends Go's zero times).
      Update: unary(({ info, updateMask }) => ({
        info: toWire(snapshotter.update(info?.name ?? '', info?.labels ?? {}, updateMask?.paths ?? [])),
      })),
      List: serverStream(async function* ({ filters }) {
        const infos = snapshotter.list(filters).map(toWire);
        for (let at = 0; at < infos.length; at += LIST_BLOCK) yield { info: infos.slice(at, at + LIST_BLOCK) };
      }),
      Usage: unary(({ key }) => snapshotter.usage(key)),
      Cleanup: unary(async () => {
        await snapshotter.cleanup();
        return {};
      }),
    },
  };
}

/** `lacuna.snapshotter.v1`. */
export function serveLacuna(snapshotter: Snapshotter, images: Images): Service<LacunaApi> {
  return {
    definition: lacunaService(),
    handlers: {
      SetRegistry: unary(async (access) => {
        await images.setRegistry(access);
        return {};
      }),
      Expect: unary(({ image, layer, mediaType, size }) => {
        images.announce(image, layer);
        const hasLayer = snapshotter.hasBootstrap(layer);
        if (!hasLayer) images.expect(image, { digest: layer, mediaType, size });
        return { known: hasLayer };
      }),
    },
  };
}
