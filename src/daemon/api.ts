/** Types of the control API. Its messages are generated from `proto/lacuna/daemon/v1/daemon.proto`. */
import type * as messages from '../grpc/messages/daemon.gen.ts';
import { loadService, type Sent, type TypedDefinition } from '../grpc/proto.ts';

export type { AttachResponse, Counters, DeviceStatus, ImageStatus } from '../grpc/messages/daemon.gen.ts';

/** A message to send; fields in `Needed` have no default. */
type Request<Message, Needed extends keyof Message> = Sent<Message> & Pick<Message, Needed>;

export type RegistrySource = Request<messages.RegistrySource, 'host' | 'repository'>;

/** A source of blobs: exactly one of the three. */
export type Source =
  | { readonly registry: RegistrySource }
  | { readonly directory: messages.DirectorySource }
  | { readonly layout: messages.LayoutSource };

export type AttachRequest = Request<Omit<messages.AttachRequest, 'sources'>, 'id' | 'bootstrap'> & {
  /** Tried in order. */
  readonly sources: readonly Source[];
};

export type SetCredentialsRequest = Request<messages.SetCredentialsRequest, 'host'>;

export type Status = messages.StatusResponse & { readonly counters: messages.Counters };

export const daemonService = (): TypedDefinition<messages.Daemon> =>
  loadService('lacuna/daemon/v1/daemon.proto', 'lacuna.daemon.v1.Daemon');
