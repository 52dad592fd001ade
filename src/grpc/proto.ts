/**
 * From a `.proto` file to grpc-js service definitions, and promises around grpc-js calls. Our own control API, the
 * snapshots service and the client of containerd all go through here.
 *
 * Types of messages and services are made from the files, see `messages/`. How messages look in TypeScript: field names in camelCase (`google.protobuf.Any` keeps `type_url`), 64-bit integers
 * as numbers (exact up to 2^53; sizes, times and ids of ours never reach it), enums as their names, bytes as Buffer,
 * an absent message as null, absent scalars, lists and maps as their empty values; members of a oneof that are not set
 * are absent.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { handleServerStreamingCall, handleUnaryCall, MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

/** The folder of `.proto` files: the same place seen from `src/grpc` and from `dist/grpc`. */
const PROTO_ROOT = fileURLToPath(new URL('../../proto/', import.meta.url));

const roots = new Map<string, protobuf.Root>();

function loadRoot(protoFile: string): protobuf.Root {
  let root = roots.get(protoFile);
  if (root === undefined) {
    root = new protobuf.Root();
    // Imports are written relative to the folder, as protoc wants them; google's own well-known types are built in.
    root.resolvePath = (_origin, target) =>
      target.startsWith('google/protobuf/') ? target : resolve(PROTO_ROOT, target);
    root.loadSync(protoFile).resolveAll();
    roots.set(protoFile, root);
  }
  return root;
}

const TO_OBJECT: protobuf.IConversionOptions = {
  longs: Number,
  enums: String,
  defaults: true,
  arrays: true,
  objects: true,
};

/** Encoder and decoder of one message type. */
export interface MessageCodec {
  encode(value: object): Buffer;
  decode(bytes: Uint8Array): object;
}

const codecOf = (type: protobuf.Type): MessageCodec => ({
  encode(value) {
    const bytes = type.encode(type.fromObject(value)).finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  },
  decode: (bytes) => type.toObject(type.decode(bytes), TO_OBJECT),
});

/** The message `fullName` of a file below `proto/`, for what travels inside `google.protobuf.Any` or in a file. */
export function loadMessage(protoFile: string, fullName: string): MessageCodec {
  return codecOf(loadRoot(protoFile).lookupType(fullName));
}

/** A message as it is sent: what is left out, or null, has its default value. */
export type Sent<T> = T extends Uint8Array
  ? Uint8Array
  : T extends readonly (infer Item)[]
    ? readonly Sent<Item>[]
    : T extends object
      ? { readonly [Field in keyof T]?: Sent<T[Field]> | null }
      : T;

/** Of one method. `streams`: a stream of responses. */
interface Method {
  readonly request: object;
  readonly response: object;
  readonly streams?: true;
}

/** A service as `messages/` describes it. */
export type Methods<Service> = { readonly [Name in keyof Service]: Method };
export type AnyService = Record<string, Method>;

/** The definition for grpc-js of a service whose types are known. */
export type TypedDefinition<Service> = ServiceDefinition & { readonly [TYPES]?: Service };
declare const TYPES: unique symbol;

/** Implementation of a service: a handler for each of its methods. */
export type Handlers<Service extends Methods<Service>> = {
  readonly [Name in keyof Service]: Service[Name] extends { readonly streams: true }
    ? handleServerStreamingCall<Service[Name]['request'], Sent<Service[Name]['response']>>
    : handleUnaryCall<Service[Name]['request'], Sent<Service[Name]['response']>>;
};

/** The service `fullName` (`package.Service`) of a file below `proto/`, for grpc-js servers and clients. */
export function loadService<Service = AnyService>(protoFile: string, fullName: string): TypedDefinition<Service> {
  const service = loadRoot(protoFile).lookupService(fullName);
  const definition: Record<string, MethodDefinition<object, object>> = {};
  for (const method of service.methodsArray) {
    const request = codecOf(method.resolvedRequestType!);
    const response = codecOf(method.resolvedResponseType!);
    definition[method.name] = {
      path: `/${fullName}/${method.name}`,
      requestStream: method.requestStream === true,
      responseStream: method.responseStream === true,
      requestSerialize: request.encode,
      requestDeserialize: request.decode,
      responseSerialize: response.encode,
      responseDeserialize: response.decode,
    };
  }
  return definition;
}
