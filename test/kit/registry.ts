/**
 * A registry in this process that speaks the real protocol over real HTTP and goes wrong on demand.
 *
 * ```ts
 * await using registry = await startRegistry({ auth: 'token' });
 * registry.storage.putLayout('fixtures/tame', 'test/fixtures/oci/tame-mini');
 * registry.fault = (request) => (request.path.includes('/blobs/') ? { kind: 'cut', after: 1000 } : null);
 * ```
 */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { type AuthOptions, RegistryAuth } from './registry-auth.ts';
import { type Fault, type Reply, send, spoil } from './registry-faults.ts';
import { Storage } from './registry-storage.ts';
import { type UploadOptions, Uploads } from './registry-uploads.ts';

export interface RegistryOptions extends Partial<AuthOptions>, UploadOptions {
  /** Certificate and key as PEM text; without them it is plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** PEM of the authority whose client certificates are wanted. */
  readonly clientCa?: string;
  /**
   * Speak the referrers API of distribution-spec 1.1, this many a page; or answer so instead. Default: no such API, as
   * docker-registry has none.
   */
  readonly referrers?: { readonly perPage: number } | Reply;
  /** The tag `sha256-<hex>` is taken for the digest itself, as GitLab's registry does. Default false. */
  readonly tagsAreDigests?: boolean;
  /** What a manifest that was pushed is answered with. Default 201. */
  readonly manifestStatus?: number;
  /** Headers that its answers lack. */
  readonly lacks?: readonly string[];
  /** Most tags on a page of their list; default as many as are asked for. */
  readonly tagsPerPage?: number;
  /** Shared with another registry, which so becomes its mirror or its storage behind redirects. */
  readonly storage?: Storage;
  /** See `registry.fault`. */
  readonly fault?: FaultHook;
}

/** One request, as the log has it. */
export interface LoggedRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: string;
  readonly headers: NodeJS.Dict<string | string[]>;
  /** Counts from 1, of this method and path. */
  readonly nth: number;
  /** Bytes of the request's body, as far as it was read. */
  bodySize: number;
  /** Of the answer; 0 when there was none. */
  status: number;
  /** Of the answer's body. */
  bytes: number;
}

/** Asked about every request; null = nothing goes wrong. */
export type FaultHook = (request: LoggedRequest) => Fault | null;

export interface TestRegistry extends AsyncDisposable {
  /** `localhost:PORT` */
  readonly host: string;
  /** `http://localhost:PORT` */
  readonly origin: string;
  readonly storage: Storage;
  readonly auth: RegistryAuth;
  readonly uploads: Uploads;
  readonly requests: LoggedRequest[];
  /** The most connections that were open at once. */
  readonly peakConnections: number;
  fault: FaultHook;
  close(): Promise<void>;
}

const reply = (status: number, headers: Record<string, string>, body: Buffer = Buffer.alloc(0)): Reply => ({
  status,
  headers,
  body,
});

const refuse = (status: number, code: string): Reply =>
  reply(
    status,
    { 'content-type': 'application/json' },
    Buffer.from(JSON.stringify({ errors: [{ code, message: 'test' }] })),
  );

/** Ports that registries of this process have had: what it has learned of one must not meet another. */
const usedPorts = new Set<number>();

/** Listens where none has been before. Gives the port. */
async function listenAnew(server: Server): Promise<number> {
  for (;;) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, 'localhost', resolve);
    });
    const { port } = server.address() as AddressInfo;
    if (!usedPorts.has(port)) {
      usedPorts.add(port);
      return port;
    }
    await new Promise((resolve) => server.close(resolve));
  }
}

export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const storage = options.storage ?? new Storage();
  const auth = new RegistryAuth({ ...options, auth: options.auth ?? null });
  const uploads = new Uploads(storage, options);
  const requests: LoggedRequest[] = [];
  let origin = '';

  const listener: RequestListener = (request, response) => {
    handle(request, response).catch((error: unknown) =>
      response.destroy(error instanceof Error ? error : new Error(String(error))),
    );
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, origin);
    const { method = 'GET', headers } = request;
    const nth = 1 + requests.filter((row) => row.method === method && row.path === url.pathname).length;
    const row: LoggedRequest = {
      method,
      path: url.pathname,
      query: url.search,
      headers,
      nth,
      status: 0,
      bytes: 0,
      bodySize: 0,
    };
    requests.push(row);
    const fault = registry.fault(row);
    // A request that is refused is not read: one whose body has no end would be waited for.
    const isStreamed = headers['transfer-encoding'] !== undefined;
    const isEarly = isStreamed && (fault?.kind === 'status' || fault?.kind === 'hang' || options.streams === false);
    const limit = fault?.kind === 'cut-request' ? fault.after : isEarly ? 0 : Number.POSITIVE_INFINITY;
    const body = await read(request, limit);
    row.bodySize = body.length;
    const isPointless = fault !== null && ['status', 'delayed-status', 'redirect', 'drop', 'hang'].includes(fault.kind);
    const good = isPointless ? reply(500, {}) : answer(request, url, body, fault);
    for (const name of options.lacks ?? []) delete good.headers[name];
    const spoiled = spoil(good, fault, request);
    row.status = spoiled.status;
    row.bytes = await send(request, response, spoiled, fault);
  }

  function answer(request: IncomingMessage, url: URL, body: Buffer, fault: Fault | null): Reply {
    if (url.pathname === '/token') return auth.token(request, body);
    const route = parseRoute(url);
    if (route === null) return refuse(404, 'NOT_FOUND');
    const refused = auth.check(request, origin, scopesOf(request.method!, route, url.searchParams));
    if (refused !== null) return refused;
    const method = request.method!;
    switch (route.kind) {
      case 'base':
        return reply(200, {});
      case 'manifests':
        return method === 'PUT' ? putManifest(request, route, body) : getManifest(route);
      case 'referrers':
        if (options.referrers === undefined) return refuse(404, 'NOT_FOUND');
        return 'status' in options.referrers ? options.referrers : listReferrers(route, url, options.referrers);
      case 'tags':
        return listTags(route, url);
      case 'blobs':
        return getBlob(request, route, fault);
      case 'uploads':
        if (route.ref === '') return uploads.begin(route.repository, url.searchParams, origin);
        return uploads.handle(
          method,
          route.ref,
          url.searchParams,
          request.headers,
          body,
          origin,
          fault?.kind !== 'cut-request' && request.complete,
        );
    }
  }

  function putManifest(request: IncomingMessage, { repository, ref }: Route, body: Buffer): Reply {
    const tag = ref.includes(':') ? undefined : ref;
    const { digest } = storage.putManifest(repository, request.headers['content-type'] ?? '', body, tag, ref);
    if (tag === undefined && digest !== ref) return refuse(400, 'DIGEST_INVALID');
    const { subject } = JSON.parse(body.toString('utf8')) as { subject?: { digest: string } };
    const lists = options.referrers !== undefined && 'perPage' in options.referrers;
    return reply(options.manifestStatus ?? 201, {
      location: `/v2/${repository}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(subject === undefined || !lists ? {} : { 'oci-subject': subject.digest }),
    });
  }

  function listReferrers({ repository, ref }: Route, url: URL, { perPage }: { perPage: number }): Reply {
    const all = [...(storage.repositories.get(repository)?.manifests ?? [])].flatMap(
      ([digest, { mediaType, bytes }]) => {
        const { subject, artifactType, config, annotations } = JSON.parse(bytes.toString('utf8'));
        if (subject?.digest !== ref) return [];
        return [
          { mediaType, digest, size: bytes.length, artifactType: artifactType ?? config?.mediaType, annotations },
        ];
      },
    );
    const type = url.searchParams.get('artifactType');
    const fitting = all.filter(({ artifactType }) => type === null || artifactType === type);
    const start = Number(url.searchParams.get('start') ?? 0);
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: fitting.slice(start, start + perPage),
    };
    const next = new URL(url);
    next.searchParams.set('start', String(start + perPage));
    const more = start + perPage < fitting.length ? { link: `<${next.pathname}${next.search}>; rel="next"` } : {};
    return reply(200, { 'content-type': index.mediaType, ...more }, Buffer.from(JSON.stringify(index)));
  }

  function listTags({ repository }: Route, url: URL): Reply {
    const found = storage.repositories.get(repository);
    if (found === undefined) return refuse(404, 'NAME_UNKNOWN');
    const tags = [...found.tags.keys()].sort();
    const count = Math.min(Number(url.searchParams.get('n') ?? tags.length), options.tagsPerPage ?? Infinity);
    const start = tags.findIndex((tag) => tag > (url.searchParams.get('last') ?? ''));
    const page = start < 0 ? [] : tags.slice(start, start + count);
    const isMore = start >= 0 && start + count < tags.length;
    const link = { link: `</v2/${repository}/tags/list?last=${page.at(-1)}&n=${count}>; rel="next"` };
    // As docker-registry has it, which is written in Go.
    const body = Buffer.from(JSON.stringify({ name: repository, tags: tags.length === 0 ? null : page }));
    return reply(200, { 'content-type': 'application/json', ...(isMore ? link : {}) }, body);
  }

  function getManifest({ repository, ref }: Route): Reply {
    const name = options.tagsAreDigests === true ? ref.replace(/^sha256-(?=[0-9a-f]{64}$)/, 'sha256:') : ref;
    const found = storage.repositories.get(repository)?.manifest(name) ?? null;
    if (found === null) return refuse(404, 'MANIFEST_UNKNOWN');
    return reply(200, { 'content-type': found.mediaType, 'docker-content-digest': found.digest }, found.bytes);
  }

  function getBlob(request: IncomingMessage, { repository, ref }: Route, fault: Fault | null): Reply {
    const blob = storage.repositories.get(repository)?.blobs.get(ref);
    if (blob === undefined) return refuse(404, 'BLOB_UNKNOWN');
    const headers = {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      'docker-content-digest': ref,
    };
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (range === null || fault?.kind === 'ignore-range') return reply(200, headers, blob);
    const start = Number(range[1]);
    const end = Math.min(blob.length, range[2] === '' ? blob.length : Number(range[2]) + 1);
    if (start >= end) return reply(416, { 'content-range': `bytes */${blob.length}` });
    return reply(
      206,
      { ...headers, 'content-range': `bytes ${start}-${end - 1}/${blob.length}` },
      blob.subarray(start, end),
    );
  }

  const client = options.clientCa === undefined ? {} : { ca: options.clientCa, requestCert: true };
  const server =
    options.tls === undefined ? createServer(listener) : createTlsServer({ ...options.tls, ...client }, listener);
  let open = 0;
  let peak = 0;
  server.on('connection', (socket) => {
    peak = Math.max(peak, ++open);
    socket.on('close', () => open--);
  });
  const host = `localhost:${await listenAnew(server)}`;
  origin = `${options.tls === undefined ? 'http' : 'https'}://${host}`;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  const registry: TestRegistry = {
    get peakConnections() {
      return peak;
    },
    host,
    origin,
    storage,
    auth,
    uploads,
    requests,
    fault: options.fault ?? (() => null),
    close,
    [Symbol.asyncDispose]: close,
  };
  return registry;
}

interface Route {
  readonly kind: 'base' | 'manifests' | 'blobs' | 'uploads' | 'referrers' | 'tags';
  readonly repository: string;
  readonly ref: string;
}

function parseRoute(url: URL): Route | null {
  if (url.pathname === '/v2/') return { kind: 'base', repository: '', ref: '' };
  const match = /^\/v2\/(.+)\/(manifests|blobs\/uploads|blobs|referrers|tags)\/([^/]*)$/.exec(url.pathname);
  if (match === null) return null;
  const kind = match[2] === 'blobs/uploads' ? 'uploads' : (match[2] as 'manifests' | 'blobs' | 'referrers' | 'tags');
  return { kind, repository: match[1]!, ref: decodeURIComponent(match[3]!) };
}

function scopesOf(method: string, route: Route, query: URLSearchParams): string[] {
  if (route.kind === 'base') return [];
  const actions = method === 'GET' || method === 'HEAD' ? 'pull' : 'pull,push';
  const from = query.get('from');
  const scopes = [`repository:${route.repository}:${actions}`];
  return from === null ? scopes : [...scopes, `repository:${from}:pull`];
}

/** The request's body, or its first `limit` bytes. */
async function read(request: IncomingMessage, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  if (limit === 0) return Buffer.alloc(0);
  return await new Promise((resolve) => {
    const done = (): void => resolve(Buffer.concat(pieces));
    request.on('data', (piece: Buffer) => {
      if (size >= limit) return;
      pieces.push(piece.subarray(0, limit - size));
      size += piece.length;
      if (size >= limit) done();
    });
    request.on('end', done);
    request.on('error', done);
    request.on('close', done);
  });
}
