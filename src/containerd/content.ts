/** Writing into containerd's content store, where one writer at a time has a name of a write locked. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { ContainerdApi } from '../grpc/containerd.ts';
import type { WriteContentRequest, WriteContentResponse } from '../grpc/messages/content.gen.ts';
import type { Sent } from '../grpc/proto.ts';
import { fromStatus } from '../grpc/status.ts';
import type { UnixChannel } from '../grpc/unix.ts';
import type { Descriptor } from '../image/manifest.ts';

export type ContentDescriptor = Pick<Descriptor, 'digest' | 'size'>;
export type Pieces = AsyncIterable<Buffer> | Iterable<Buffer>;

export interface ContentLink {
  readonly channel: UnixChannel<ContainerdApi>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
}

/** Interval of polling another pull's write, and the time without progress until waiting ends, in milliseconds. */
const LOOK = 250;
const STANDSTILL = 120_000;

/**
 * Stores `pieces` as `descriptor`; they are not read before the write is ours. While another has it, `onOther` is told
 * how many bytes that one has stored. ALREADY_EXISTS when it is stored, LOCKED when the other stands still.
 */
export async function writeOrWait(
  link: ContentLink,
  descriptor: ContentDescriptor,
  pieces: Pieces,
  labels: Readonly<Record<string, string>>,
  onOther: (bytes: number) => void,
): Promise<void> {
  const ref = `lacuna-${descriptor.digest}`;
  let seen = -1;
  let movedAt = performance.now();
  for (;;) {
    try {
      return await write(link, ref, descriptor, pieces, labels);
    } catch (error) {
      if (!isLocked(error)) throw error;
    }
    const bytes = await progressOf(link, ref);
    if (bytes !== seen) movedAt = performance.now();
    else if (performance.now() - movedAt > STANDSTILL) throw standstill(descriptor, bytes);
    seen = bytes;
    if (bytes > 0) onOther(bytes);
    await sleep(LOOK, undefined, link.signal === undefined ? {} : { signal: link.signal });
  }
}

/** containerd's local store, with or without for how long (content/local/locks.go). */
const isLocked = (error: unknown): boolean => {
  const { code, message } = toLacunaError(error);
  return code === 'UNAVAILABLE' && /\bref \S+ locked\b/.test(message);
};

/** Bytes that the writer of `ref` has stored; 0 when there is none any more. */
async function progressOf({ channel, metadata, signal }: ContentLink, ref: string): Promise<number> {
  try {
    const settings = { metadata, ...(signal === undefined ? {} : { signal }) };
    const { status } = await channel.call('Content.Status', { ref }, settings);
    return status?.offset ?? 0;
  } catch (error) {
    if (toLacunaError(error).code === 'NOT_FOUND') return 0;
    throw error;
  }
}

const standstill = ({ digest, size }: ContentDescriptor, bytes: number): LacunaError =>
  new LacunaError(
    'LOCKED',
    `another pull stored ${bytes} of ${size} bytes and has made no progress for ${STANDSTILL / 1000} s`,
    {
      op: 'pull',
      subject: digest,
      hint: 'end the other pull, or wait for it and pull again',
    },
  );

/** One message for what is small; a message per piece, and as many on their way as the socket takes, for the rest. */
async function write(
  { channel, metadata, signal }: ContentLink,
  ref: string,
  { digest, size }: ContentDescriptor,
  pieces: Pieces,
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  const method = channel.definition['Content.Write']!;
  const headers = new Metadata();
  for (const [key, value] of Object.entries(metadata)) headers.set(key, value);
  const call = channel.client.makeBidiStreamRequest<Sent<WriteContentRequest>, WriteContentResponse>(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    headers,
  );
  const cancel = () => call.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  const opened = new Promise<void>((resolve) => call.once('data', () => resolve()));
  const ended = new Promise<void>((resolve, reject) => {
    call.on('error', (error: ServiceError) => reject(fromStatus(error, { op: 'write content', subject: digest })));
    call.on('end', resolve);
    call.resume();
  });
  // The failure is thrown where the call is awaited: below, or while a piece is sent.
  ended.catch(() => {});
  const send = async (message: Sent<WriteContentRequest>): Promise<void> => {
    if (call.write(message)) return;
    await Promise.race([new Promise<void>((resolve) => call.once('drain', resolve)), ended]);
  };
  try {
    // The first answer says that the write is ours; what the registry has is asked for only then.
    await send({ action: 'STAT', ref, total: size, expected: digest });
    await Promise.race([opened, ended]);
    let offset = 0;
    let last: Buffer | null = null;
    for await (const piece of pieces) {
      if (last !== null) {
        await send({ action: 'WRITE', ref, total: size, expected: digest, offset, data: last });
        offset += last.length;
      }
      last = piece;
    }
    const data = last ?? Buffer.alloc(0);
    await send({ action: 'COMMIT', ref, total: size, expected: digest, offset, data, labels });
    call.end();
    await ended;
  } catch (error) {
    call.cancel();
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
