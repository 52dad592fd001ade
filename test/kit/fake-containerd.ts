/** containerd as far as a pull calls it, in memory, and a note of every call. It serves the snapshotter's own calls too. */
import type { ServerDuplexStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { LacunaError } from '../../src/errors.ts';
import { loadService } from '../../src/grpc/proto.ts';
import { toStatus } from '../../src/grpc/status.ts';
import { unary, unixServer } from '../../src/grpc/unix.ts';
import { digestOf } from '../../src/image/digest.ts';
import { lacunaService } from '../../src/snapshotter/service.ts';

type Labels = Record<string, string>;

interface WriteMessage {
  readonly action: string;
  readonly ref: string;
  readonly expected: string;
  readonly offset: number;
  readonly data: Buffer;
  readonly labels: Labels;
}

export interface Snapshot {
  readonly parent: string;
  readonly labels: Labels;
}

interface PrepareRequest extends Snapshot {
  readonly key: string;
}

export class FakeContainerd implements AsyncDisposable {
  /** `Service.Method subject`, in the order of arrival. */
  readonly calls: string[] = [];
  /** Digest → bytes. */
  readonly content = new Map<string, Buffer>();
  readonly contentLabels = new Map<string, Labels>();
  readonly committed = new Map<string, Snapshot>();
  /** Writes under way: name → bytes stored. Nobody else gets a name that is here. */
  readonly writes = new Map<string, number>();
  readonly images = new Map<string, { mediaType: string; digest: string; size: number }>();
  readonly leases = new Set<string>();
  /** What `lacuna pull` told the snapshotter. */
  readonly told: { method: string; request: unknown }[] = [];
  /** Whether a layer with these labels is committed at once. */
  isLazy = (labels: Labels): boolean => Object.keys(labels).some((key) => /nydus-(blob|bootstrap)$/.test(key));
  /** What unpacking says the layer's diffID is. */
  diffIdOf: (digest: string) => string = () => '';
  readonly address: string;
  #close: () => Promise<void> = async () => {};
  readonly #active = new Map<string, PrepareRequest>();

  private constructor(address: string) {
    this.address = address;
  }

  static async start(address: string): Promise<FakeContainerd> {
    const fake = new FakeContainerd(address);
    const server = await unixServer(address, [
      fake.#service('Snapshots', {
        Prepare: unary((request: PrepareRequest) => fake.#prepare(request)),
        Commit: unary(({ name, key, labels }: { name: string; key: string; labels: Labels }) => {
          fake.committed.set(name, { parent: fake.#active.get(key)!.parent, labels });
          fake.#active.delete(key);
          fake.calls.push(`Snapshots.Commit ${name}`);
          return {};
        }),
        Remove: unary(({ key }: { key: string }) => {
          fake.#active.delete(key);
          fake.calls.push('Snapshots.Remove');
          return {};
        }),
      }),
      fake.#service('Content', {
        Info: unary(({ digest }: { digest: string }) => {
          const found = fake.content.get(digest);
          if (found === undefined) throw new LacunaError('NOT_FOUND', 'no such content');
          return { info: { digest, size: found.length, labels: fake.contentLabels.get(digest) ?? {} } };
        }),
        Update: unary(({ info }: { info: { digest: string; labels: Labels } }) => {
          fake.contentLabels.set(info.digest, { ...fake.contentLabels.get(info.digest), ...info.labels });
          return { info };
        }),
        Status: unary(({ ref }: { ref: string }) => {
          const offset = fake.writes.get(ref);
          if (offset === undefined) throw new LacunaError('NOT_FOUND', `no write ${ref}`);
          return { status: { ref, offset } };
        }),
        Write: (call: ServerDuplexStream<WriteMessage, object>) => fake.#write(call),
      }),
      fake.#service('Images', {
        Create: unary(({ image }: { image: { name: string; target: never } }) => {
          fake.calls.push(`Images.Create ${image.name}`);
          if (fake.images.has(image.name)) throw new LacunaError('ALREADY_EXISTS', 'image exists');
          fake.images.set(image.name, image.target);
          return { image };
        }),
        Update: unary(({ image }: { image: { name: string; target: never } }) => {
          fake.calls.push(`Images.Update ${image.name}`);
          fake.images.set(image.name, image.target);
          return { image };
        }),
      }),
      fake.#service('Leases', {
        Create: unary(({ id }: { id: string }) => {
          fake.leases.add(id);
          return { lease: { id } };
        }),
        Delete: unary(({ id }: { id: string }) => {
          fake.leases.delete(id);
          fake.calls.push('Leases.Delete');
          return {};
        }),
      }),
      fake.#service('Diff', {
        Apply: unary(({ diff }: { diff: { digest: string } }) => {
          if (!fake.content.has(diff.digest)) throw new LacunaError('NOT_FOUND', 'no such content');
          fake.calls.push(`Diff.Apply ${diff.digest}`);
          return { applied: { digest: fake.diffIdOf(diff.digest), size: 0, mediaType: '' } };
        }),
      }),
      fake.#service('Introspection', {
        Plugins: unary(({ filters }: { filters: string[] }) => {
          const id = /id==(\w+)/.exec(filters[0]!)![1]!;
          const exports = id === 'lacuna' ? { address } : {};
          return { plugins: id === 'absent' ? [] : [{ type: 'io.containerd.snapshotter.v1', id, exports }] };
        }),
      }),
      {
        definition: lacunaService(),
        handlers: {
          SetRegistry: unary((request: object) => {
            fake.told.push({ method: 'SetRegistry', request });
            return {};
          }),
          Expect: unary((request: object) => {
            fake.told.push({ method: 'Expect', request });
            return { known: false };
          }),
        },
      },
    ]);
    fake.#close = () => server.close(0);
    return fake;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }

  #service(name: string, handlers: UntypedServiceImplementation) {
    const lower = name.toLowerCase();
    return {
      definition: loadService(`containerd/${lower}.proto`, `containerd.services.${lower}.v1.${name}`),
      handlers,
    };
  }

  #prepare(request: PrepareRequest): object {
    const ref = request.labels['containerd.io/snapshot.ref']!;
    this.calls.push(`Snapshots.Prepare ${ref}`);
    if (this.committed.has(ref)) throw new LacunaError('ALREADY_EXISTS', 'unpacked before');
    if (this.isLazy(request.labels)) {
      this.committed.set(ref, request);
      throw new LacunaError('ALREADY_EXISTS', 'lazy');
    }
    this.#active.set(request.key, request);
    return { mounts: [{ type: 'bind', source: '/nowhere', target: '', options: [] }] };
  }

  #write(call: ServerDuplexStream<WriteMessage, object>): void {
    const pieces: Buffer[] = [];
    let ref = '';
    const unlock = (): void => {
      if (ref !== '') this.writes.delete(ref);
      ref = '';
    };
    const fail = (error: LacunaError): void => {
      unlock();
      call.emit('error', toStatus(error));
    };
    call.on('cancelled', unlock);
    call.on('data', (message: WriteMessage) => {
      if (this.content.has(message.expected)) return fail(new LacunaError('ALREADY_EXISTS', 'content exists'));
      if (message.action === 'STAT') {
        if (this.writes.has(message.ref)) {
          this.calls.push(`Content.Write ${message.expected} locked`);
          const text = `ref default/1/${message.ref} locked for 1.2s (since 2026-01-01 00:00:00 UTC): unavailable`;
          return fail(new LacunaError('UNAVAILABLE', text));
        }
        ref = message.ref;
        this.writes.set(ref, 0);
        call.write({ action: 'STAT' });
        return;
      }
      pieces.push(message.data);
      this.writes.set(message.ref, message.offset + message.data.length);
      if (message.action !== 'COMMIT') return;
      const bytes = Buffer.concat(pieces);
      if (digestOf(bytes) !== message.expected) {
        const problem = `unexpected commit digest ${digestOf(bytes)}, expected ${message.expected}`;
        return fail(new LacunaError('PRECONDITION', `${problem}: failed precondition`));
      }
      this.content.set(message.expected, bytes);
      this.contentLabels.set(message.expected, message.labels);
      unlock();
      call.write({ action: 'COMMIT', digest: message.expected, offset: bytes.length });
    });
    call.on('end', () => {
      unlock();
      call.end();
    });
  }
}
