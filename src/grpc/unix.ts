/** gRPC over UNIX sockets: servers and clients with promises instead of callbacks, errors as {@link LacunaError}s. */
import { rm } from 'node:fs/promises';
import {
  type CallOptions,
  Client,
  credentials,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { LacunaError } from '../errors.ts';
import { listenPrivately, pidOf } from './listen.ts';
import type { Methods, Sent, TypedDefinition } from './proto.ts';
import { fromStatus, toStatus } from './status.ts';

/** A `sockaddr_un` holds 108 bytes with the final NUL. */
const MAX_SOCKET_PATH = 107;

/** Bound on one message, both ways: a listing of many images is larger than grpc's own 4 MiB. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
};

function assertSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return;
  throw new LacunaError('USAGE', `the path of a UNIX socket has at most ${MAX_SOCKET_PATH} bytes`, {
    subject: path,
    hint: 'use a shorter --root or --address',
  });
}

/** Context of a call for its handler. */
export interface CallContext {
  /** Aborted when the client cancels or goes away. */
  readonly signal: AbortSignal;
  /** Process id of the client; 0 when it lives in a PID namespace that cannot be seen from here. */
  readonly pid: number;
}

interface Call {
  on(event: 'cancelled', listener: () => void): unknown;
  getPeer(): string;
}

function contextOf(call: Call): CallContext {
  const abort = new AbortController();
  call.on('cancelled', () => abort.abort());
  return { signal: abort.signal, pid: pidOf(call.getPeer()) };
}

/** An asynchronous function as the handler of a unary method. */
export function unary<Request, Response>(
  handler: (request: Request, context: CallContext) => Promise<Response> | Response,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const run = async () => handler(call.request, contextOf(call));
    run().then(
      (response) => callback(null, response),
      (error: unknown) => callback(toStatus(error)),
    );
  };
}

/** An async generator as the handler of a method that streams responses; slow readers slow it down. */
export function serverStream<Request, Response>(
  handler: (request: Request, context: CallContext) => AsyncIterable<Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const run = async () => {
      const context = contextOf(call);
      for await (const response of handler(call.request, context)) {
        if (context.signal.aborted) return;
        if (!call.write(response)) await new Promise<void>((resolve) => drained(call, context.signal, resolve));
      }
      call.end();
    };
    // grpc-js turns the event into the final status; a destroyed stream would never send one.
    run().catch((error: unknown) => call.emit('error', toStatus(error)));
  };
}

function drained(call: { once(event: 'drain', f: () => void): unknown }, signal: AbortSignal, done: () => void): void {
  call.once('drain', done);
  signal.addEventListener('abort', done, { once: true });
}

export interface UnixServer extends AsyncDisposable {
  readonly path: string;
  /** Waits for running calls up to `graceMilliseconds` (default 2000), then cuts them; removes the socket. */
  close(graceMilliseconds?: number): Promise<void>;
}

/**
 * Serves `services` on a UNIX socket that only its owner may open. A socket left by a dead process is replaced, so the
 * caller holds the lock that says there is no living one.
 */
export async function unixServer(
  path: string,
  services: readonly { definition: ServiceDefinition; handlers: UntypedServiceImplementation }[],
): Promise<UnixServer> {
  assertSocketPath(path);
  const server = new Server(CHANNEL_OPTIONS);
  for (const { definition, handlers } of services) server.addService(definition, handlers);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = await listenPrivately(path, (socket) => injector.injectConnection(socket));
  const close = async (graceMilliseconds = 2000): Promise<void> => {
    listener.close();
    await rm(path, { force: true });
    const timer = setTimeout(() => server.forceShutdown(), graceMilliseconds);
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    clearTimeout(timer);
  };
  return { path, close, [Symbol.asyncDispose]: close };
}

export interface CallSettings {
  readonly signal?: AbortSignal;
  /** Gives up with TIMEOUT after this many milliseconds; default: waits for ever. */
  readonly timeout?: number;
  /** While nobody listens: wait (up to `timeout`) instead of failing with UNAVAILABLE. */
  readonly waitForReady?: boolean;
  /** Sent with the call, e.g. `containerd-namespace`. ASCII values. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A client of one service on a UNIX socket. Connects when first called, again after the server was restarted. */
export interface UnixChannel<Service extends Methods<Service>> extends Disposable {
  call<Name extends keyof Service & string>(
    method: Name,
    request: Sent<Service[Name]['request']>,
    settings?: CallSettings,
  ): Promise<Service[Name]['response']>;
  stream<Name extends keyof Service & string>(
    method: Name,
    request: Sent<Service[Name]['request']>,
    settings?: CallSettings,
  ): AsyncGenerator<Service[Name]['response'], void, void>;
  /** For methods that stream requests: grpc-js's own client and this method's path and codecs. */
  readonly client: Client;
  readonly definition: ServiceDefinition;
  close(): void;
}

/** How long grpc waits between attempts to connect: a restarted daemon is back within half a second. */
const RECONNECT_OPTIONS = { 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 1000 };

export function unixChannel<Service extends Methods<Service>>(
  path: string,
  definition: TypedDefinition<Service>,
): UnixChannel<Service> {
  assertSocketPath(path);
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    ...CHANNEL_OPTIONS,
    ...RECONNECT_OPTIONS,
    // Two clients of sockets of the same path (a root made anew) must not share a dead connection.
    'grpc.use_local_subchannel_pool': 1,
  });
  const prepare = (method: string, settings: CallSettings) => {
    const found = definition[method];
    if (found === undefined) throw new LacunaError('INTERNAL', `no method ${method}`, { subject: path });
    settings.signal?.throwIfAborted();
    const metadata = new Metadata({ waitForReady: settings.waitForReady ?? false });
    for (const [key, value] of Object.entries(settings.metadata ?? {})) metadata.set(key, value);
    const options: CallOptions = settings.timeout === undefined ? {} : { deadline: Date.now() + settings.timeout };
    return { found, metadata, options };
  };
  const explain = (error: unknown, method: string) => fromStatus(error as ServiceError, { op: method, subject: path });

  return {
    client,
    definition,
    async call<Name extends keyof Service & string>(
      method: Name,
      request: object,
      settings: CallSettings = {},
    ): Promise<Service[Name]['response']> {
      type Response = Service[Name]['response'];
      const { found, metadata, options } = prepare(method, settings);
      let cancel = (): void => {};
      try {
        return await new Promise<Response>((resolve, reject) => {
          const call = client.makeUnaryRequest<object, Response>(
            found.path,
            found.requestSerialize,
            found.responseDeserialize,
            request,
            metadata,
            options,
            (error, response) => (error ? reject(explain(error, method)) : resolve(response!)),
          );
          cancel = () => call.cancel();
          settings.signal?.addEventListener('abort', cancel, { once: true });
        });
      } finally {
        settings.signal?.removeEventListener('abort', cancel);
      }
    },
    async *stream<Name extends keyof Service & string>(method: Name, request: object, settings: CallSettings = {}) {
      type Response = Service[Name]['response'];
      const { found, metadata, options } = prepare(method, settings);
      const call = client.makeServerStreamRequest<object, Response>(
        found.path,
        found.requestSerialize,
        found.responseDeserialize,
        request,
        metadata,
        options,
      );
      const cancel = () => call.cancel();
      settings.signal?.addEventListener('abort', cancel, { once: true });
      try {
        for await (const response of call) yield response as Response;
      } catch (error) {
        throw explain(error, method);
      } finally {
        settings.signal?.removeEventListener('abort', cancel);
        call.cancel();
      }
    },
    close: () => client.close(),
    [Symbol.dispose]: () => client.close(),
  };
}
