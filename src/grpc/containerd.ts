/** The part of containerd's API that we call, on one connection; the services are described in `proto/containerd`. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import type { Content } from './messages/content.gen.ts';
import type { Diff } from './messages/diff.gen.ts';
import type { Images } from './messages/images.gen.ts';
import type { Introspection } from './messages/introspection.gen.ts';
import type { Leases } from './messages/leases.gen.ts';
import type { Snapshots } from './messages/snapshots.gen.ts';
import { loadService, type TypedDefinition } from './proto.ts';

interface Services {
  readonly Content: Content;
  readonly Diff: Diff;
  readonly Images: Images;
  readonly Introspection: Introspection;
  readonly Leases: Leases;
  readonly Snapshots: Snapshots;
}

/** The methods of one service, as `Images.Create`. */
type Qualified<Name extends keyof Services> = {
  readonly [Method in keyof Services[Name] & string as `${Name}.${Method}`]: Services[Name][Method];
};

export type ContainerdApi = Qualified<'Content'> &
  Qualified<'Diff'> &
  Qualified<'Images'> &
  Qualified<'Introspection'> &
  Qualified<'Leases'> &
  Qualified<'Snapshots'>;

const NAMES = ['Content', 'Diff', 'Images', 'Introspection', 'Leases', 'Snapshots'] as const;

export function containerdApi(): TypedDefinition<ContainerdApi> {
  const methods: Record<string, ServiceDefinition[string]> = {};
  for (const name of NAMES) {
    for (const [method, found] of Object.entries(containerdService(name))) methods[`${name}.${method}`] = found;
  }
  return methods;
}

export function containerdService<Name extends keyof Services>(name: Name): TypedDefinition<Services[Name]> {
  const lower = name.toLowerCase();
  return loadService(`containerd/${lower}.proto`, `containerd.services.${lower}.v1.${name}`);
}
