/** The snapshots service on containerd's wire, and the small service that `lacuna pull` talks to. */
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadService } from '../grpc/proto.ts';
import { serverStream, unary } from '../grpc/unix.ts';
import { callerOf } from './caller.ts';
import type { Images } from './images.ts';
import { type Labels, type Mount, toWire, type WireInfo } from './info.ts';
import type { RegistryAccess } from './registries.ts';
import type { Snapshotter } from './snapshotter.ts';

export interface Service {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

/** Snapshots per message of a listing: what containerd's own service sends. */
const LIST_BLOCK = 100;

export const snapshotsService = (): ServiceDefinition =>
  loadService('containerd/snapshots.proto', 'containerd.services.snapshots.v1.Snapshots');

export const lacunaService = (): ServiceDefinition =>
  loadService('lacuna/snapshotter/v1/snapshotter.proto', 'lacuna.snapshotter.v1.Snapshotter');

interface KeyRequest {
  readonly key: string;
}

interface PrepareRequest extends KeyRequest {
  readonly parent: string;
  readonly labels: Labels;
}

interface CommitRequest extends PrepareRequest {
  readonly name: string;
}

interface UpdateRequest {
  readonly info: WireInfo | null;
  readonly updateMask: { readonly paths: readonly string[] } | null;
}

const mountsResponse = (mounts: readonly Mount[]) => ({ mounts });

/** containerd's snapshots service. */
export function serveSnapshots(snapshotter: Snapshotter): Service {
  return {
    definition: snapshotsService(),
    handlers: {
      Prepare: unary(async ({ key, parent, labels }: PrepareRequest, { pid, signal }) =>
        mountsResponse(await snapshotter.prepare(key, parent, labels, callerOf(pid, key), signal)),
      ),
      View: unary(async ({ key, parent, labels }: PrepareRequest) =>
        mountsResponse(await snapshotter.view(key, parent, labels)),
      ),
      Mounts: unary(async ({ key }: KeyRequest) => mountsResponse(await snapshotter.mounts(key))),
      Commit: unary(async ({ name, key, labels, parent }: CommitRequest, { pid }) => {
        await snapshotter.commit(name, key, labels, parent, callerOf(pid, key));
        return {};
      }),
      Remove: unary(async ({ key }: KeyRequest) => {
        await snapshotter.remove(key);
        return {};
      }),
      Stat: unary(({ key }: KeyRequest) => ({ info: toWire(snapshotter.stat(key)) })),
      // Of what a client sends only name and labels count: the rest cannot change (containerd sends Go's zero times).
      Update: unary(({ info, updateMask }: UpdateRequest) => ({
        info: toWire(snapshotter.update(info?.name ?? '', info?.labels ?? {}, updateMask?.paths ?? [])),
      })),
      List: serverStream(async function* ({ filters }: { filters: readonly string[] }) {
        const infos = snapshotter.list(filters).map(toWire);
        for (let at = 0; at < infos.length; at += LIST_BLOCK) yield { info: infos.slice(at, at + LIST_BLOCK) };
      }),
      Usage: unary(({ key }: KeyRequest) => snapshotter.usage(key)),
      Cleanup: unary(async () => {
        await snapshotter.cleanup();
        return {};
      }),
    },
  };
}

interface ExpectRequest {
  readonly image: string;
  readonly layer: string;
  readonly mediaType: string;
  readonly size: number;
}

/** `lacuna.snapshotter.v1`. */
export function serveLacuna(snapshotter: Snapshotter, images: Images): Service {
  return {
    definition: lacunaService(),
    handlers: {
      SetRegistry: unary(async (access: RegistryAccess) => {
        await images.setRegistry(access);
        return {};
      }),
      Expect: unary(({ image, layer, mediaType, size }: ExpectRequest) => {
        images.announce(image, layer);
        const known = snapshotter.hasBootstrap(layer);
        if (!known) images.expect(image, { digest: layer, mediaType, size });
        return { known };
      }),
    },
  };
}
