/**
 * References to images, skopeo-like: `docker://HOST/REPOSITORY[:TAG][@DIGEST]`, `oci:DIR[:REF]`, `oci-archive:FILE[:REF]`,
 * `docker-archive:FILE[:NAME:TAG]`, `dir:DIR`, `rafs:BOOTSTRAP[,blobs=DIR]`.
 */
import { LacunaError } from '../errors.ts';
import { isDigest } from './digest.ts';
import { transportProblem, withoutSecrets } from './reference-text.ts';

/** An image in a registry: `docker://HOST/NAME[:TAG][@DIGEST]`. */
export interface DockerReference {
  /** The kind of the reference. */
  readonly transport: 'docker';
  /** Registry as written, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly host: string;
  /** Name of the repository, e.g. `library/debian`. */
  readonly repository: string;
  /** The tag; null when there is none. */
  readonly tag: string | null;
  /** `ALGORITHM:HEX` of the manifest or index; null when there is none. */
  readonly digest: string | null;
}

/** An image in an OCI layout: `oci:DIR[:REF]`. */
export interface OciReference {
  /** The kind of the reference. */
  readonly transport: 'oci';
  /** Directory of the layout. */
  readonly path: string;
  /** `org.opencontainers.image.ref.name` or a digest; null = the only image. */
  readonly ref: string | null;
}

/** An image in a tar file: `oci-archive:FILE[:REF]` or `docker-archive:FILE[:NAME:TAG]`. */
export interface ArchiveReference {
  /** The kind of the reference. */
  readonly transport: 'oci-archive' | 'docker-archive';
  /** A tar file; {@link STREAM} = standard input or output. */
  readonly path: string;
  /**
   * `oci-archive`: as in {@link OciReference}. `docker-archive`: a repository with its tag, written out
   * (`docker.io/library/x:latest`), or `@N`, the N-th image from 0. Null = the only image.
   */
  readonly ref: string | null;
}

/** The path of an archive that is standard input or output. */
export const STREAM = '-';

/** An image in a directory as skopeo writes it: `dir:DIR`. */
export interface DirReference {
  /** The kind of the reference. */
  readonly transport: 'dir';
  /** Directory of one image: `manifest.json`, `version`, blobs by their hex. */
  readonly path: string;
}

/** A lazy image as bare files: `rafs:BOOTSTRAP[,blobs=DIR]`. */
export interface RafsReference {
  /** The kind of the reference. */
  readonly transport: 'rafs';
  /** Bootstrap file. */
  readonly bootstrap: string;
  /** Directory of its blobs, named by their ids; null = beside the bootstrap. */
  readonly blobs: string | null;
}

/** A parsed reference of an image; see {@link parseReference}. */
export type Reference = DockerReference | OciReference | ArchiveReference | DirReference | RafsReference;

/** Where a name without a registry comes from, and the tag of a name without one: Docker's defaults. */
const DEFAULT_HOST = 'docker.io';
const DEFAULT_TAG = 'latest';

/** distribution/reference: NameTotalLengthMax. */
const MAX_NAME_LENGTH = 255;
const MAX_TEXT_LENGTH = 4096;

// The grammar of github.com/distribution/reference.
const HOST =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?$/;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
// The grammar of org.opencontainers.image.ref.name (image-spec annotations.md).
const REF_NAME = /^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:\/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$/;

function fail(text: string, problem: string, hint: string): never {
  const subject = withoutSecrets(text).slice(0, 256);
  throw new LacunaError('REFERENCE', `${JSON.stringify(subject)}: ${problem}`, {
    op: 'parse reference',
    subject,
    hint,
  });
}

/** Whether `tag` may be the tag of a repository. */
export const isTag = (tag: string): boolean => TAG.test(tag);

function parseRepository(text: string, repository: string): string {
  if (repository === '') fail(text, 'the repository is missing', 'HOST/REPOSITORY[:TAG][@DIGEST]');
  for (const component of repository.split('/')) {
    if (PATH_COMPONENT.test(component)) continue;
    const hint =
      component === component.toLowerCase()
        ? 'letters, digits, and single . _ - between them'
        : 'repository names are lower case';
    fail(text, `${JSON.stringify(component)} is not a part of a repository name`, hint);
  }
  return repository;
}

function parseHost(text: string, host: string): string {
  const match = HOST.exec(host);
  if (match === null)
    fail(text, `${JSON.stringify(host)} is not a registry`, 'a host name or address, with :PORT if it has one');
  if (match[1] !== undefined && (Number(match[1]) === 0 || Number(match[1]) > 65535)) {
    fail(text, `${match[1]} is not a port`, 'a port is 1 to 65535');
  }
  return host;
}

/** distribution/reference splitDockerDomain: the first part is a registry if it looks like one. */
function splitHost(name: string): [host: string | null, rest: string] {
  const slash = name.indexOf('/');
  if (slash < 0) return [null, name];
  const first = name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  return isHost ? [first, name.slice(slash + 1)] : [null, name];
}

/** A host without a repository. Docker's rules take it for `docker.io/library/localhost` with a port as its tag. */
const HOST_ALONE = /^(?:localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}):[0-9]+$/;
const DIGEST_HINT = '@sha256: and 64 lower-case hex digits';
const LOGIN_HINT = 'a reference has no name and password: log in to the registry instead';

function parseDocker(text: string, body: string): DockerReference {
  if (body.startsWith('/')) fail(text, 'the registry is missing', 'docker://HOST/REPOSITORY[:TAG][@DIGEST]');
  const at = body.indexOf('@');
  const digest = at < 0 ? null : body.slice(at + 1);
  if (digest !== null && !isDigest(digest)) {
    const hint = withoutSecrets(body) === body ? DIGEST_HINT : LOGIN_HINT;
    fail(text, 'what follows @ is not a digest', hint);
  }
  const name = at < 0 ? body : body.slice(0, at);
  if (HOST_ALONE.test(name)) fail(text, 'the repository is missing', 'docker://HOST/REPOSITORY[:TAG][@DIGEST]');
  const colon = name.lastIndexOf(':');
  const hasTag = colon > name.lastIndexOf('/');
  const tag = hasTag ? name.slice(colon + 1) : null;
  if (tag !== null && !isTag(tag))
    fail(text, `${JSON.stringify(tag)} is not a tag`, 'at most 128 letters, digits and _ . -');

  const [writtenHost, rest] = splitHost(hasTag ? name.slice(0, colon) : name);
  const host = writtenHost === null || writtenHost === 'index.docker.io' ? DEFAULT_HOST : parseHost(text, writtenHost);
  const isOfficial = host === DEFAULT_HOST && rest !== '' && !rest.includes('/');
  const repository = parseRepository(text, isOfficial ? `library/${rest}` : rest);
  if (host.length + 1 + repository.length > MAX_NAME_LENGTH)
    fail(text, 'the name is too long', `at most ${MAX_NAME_LENGTH} characters`);
  return { transport: 'docker', host, repository, tag: tag ?? (digest === null ? DEFAULT_TAG : null), digest };
}

/** As in skopeo the first colon ends a path, so that a name after it may contain more of them. */
function splitPath(body: string): [path: string, ref: string | null] {
  const colon = body.indexOf(':');
  return colon < 0 ? [body, null] : [body.slice(0, colon), body.slice(colon + 1)];
}

function checkRefName(text: string, ref: string): string {
  if (ref.length <= MAX_NAME_LENGTH && REF_NAME.test(ref)) return ref;
  const hint = 'letters and digits, with - . _ : @ + / between them';
  return fail(text, `${JSON.stringify(ref.slice(0, 256))} is not a ref name`, hint);
}

function parseOci(text: string, body: string): OciReference {
  const [path, ref] = splitPath(body);
  if (path === '') fail(text, 'the directory is missing', 'oci:DIR[:REF]');
  return { transport: 'oci', path, ref: ref === null ? null : checkRefName(text, ref) };
}

function parseArchive(text: string, transport: ArchiveReference['transport'], body: string): ArchiveReference {
  const [path, ref] = splitPath(body);
  if (path === '') fail(text, 'the file is missing', `${transport}:FILE, or - for standard input or output`);
  if (ref === null || (transport === 'docker-archive' && /^@[0-9]{1,6}$/.test(ref))) return { transport, path, ref };
  return { transport, path, ref: transport === 'oci-archive' ? checkRefName(text, ref) : dockerName(text, ref) };
}

/** A repository and tag in the one spelling that `docker save` abbreviates and skopeo writes out. */
function dockerName(text: string, name: string): string {
  const { host, repository, tag, digest } = parseDocker(name, name);
  if (digest !== null) fail(text, 'images of a docker archive have no digest', 'docker-archive:FILE:NAME:TAG');
  return `${host}/${repository}:${tag}`;
}

function parseDir(text: string, path: string): DirReference {
  if (path === '') fail(text, 'the directory is missing', 'dir:DIR');
  return { transport: 'dir', path };
}

function parseRafs(text: string, body: string): RafsReference {
  const comma = body.lastIndexOf(',blobs=');
  const bootstrap = comma < 0 ? body : body.slice(0, comma);
  const blobs = comma < 0 ? null : body.slice(comma + ',blobs='.length);
  if (bootstrap === '') fail(text, 'the bootstrap is missing', 'rafs:BOOTSTRAP[,blobs=DIR]');
  if (blobs === '') fail(text, 'the directory of the blobs is missing', 'rafs:BOOTSTRAP[,blobs=DIR]');
  return { transport: 'rafs', bootstrap, blobs };
}

/** Whether `text` has a control character; regular expressions with such ranges are hard to read. */
function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x20 || text.charCodeAt(i) === 0x7f) return true;
  return false;
}

/**
 * A reference from its text. A bare name means `docker://`, with Docker's defaults (`docker.io`, `library/`, `latest`).
 * Throws a LacunaError REFERENCE with a hint.
 */
export function parseReference(text: string): Reference {
  if (text.length > MAX_TEXT_LENGTH) fail(text, 'too long', `at most ${MAX_TEXT_LENGTH} characters`);
  if (text === '') fail(text, 'empty', 'docker://HOST/REPOSITORY:TAG, oci:DIR:REF or oci-archive:FILE:REF');
  if (hasControl(text)) fail(text, 'has a control character', 'references are printable text');
  const problem = transportProblem(withoutSecrets(text));
  if (problem !== null) fail(text, ...problem);
  if (text.startsWith('oci:')) return parseOci(text, text.slice('oci:'.length));
  for (const transport of ['oci-archive', 'docker-archive'] as const) {
    if (text.startsWith(`${transport}:`)) return parseArchive(text, transport, text.slice(transport.length + 1));
  }
  if (text.startsWith('dir:')) return parseDir(text, text.slice('dir:'.length));
  if (text.startsWith('rafs:')) return parseRafs(text, text.slice('rafs:'.length));
  if (text.startsWith('docker://')) return parseDocker(text, text.slice('docker://'.length));
  return parseDocker(text, text);
}

/** Whether `reference` is standard input or output: nothing else can be read from it or printed to it then. */
export const isStream = (reference: Reference): boolean =>
  (reference.transport === 'oci-archive' || reference.transport === 'docker-archive') && reference.path === STREAM;

/** The name of an image in a docker archive, `docker save`'s short form included, as {@link ArchiveReference} has it. */
export const dockerArchiveName = (name: string): string => dockerName(name, name);

/** The canonical text of a reference; `parseReference` gives the same reference back. */
export function formatReference(reference: Reference): string {
  switch (reference.transport) {
    case 'docker': {
      const tag = reference.tag === null ? '' : `:${reference.tag}`;
      const digest = reference.digest === null ? '' : `@${reference.digest}`;
      return `docker://${reference.host}/${reference.repository}${tag}${digest}`;
    }
    case 'oci':
    case 'oci-archive':
    case 'docker-archive': {
      const { transport, path, ref } = reference;
      if (path.includes(':')) fail(path, 'the path has a colon', 'rename it or use a link');
      return `${transport}:${path}${ref === null ? '' : `:${ref}`}`;
    }
    case 'dir':
      return `dir:${reference.path}`;
    case 'rafs':
      return `rafs:${reference.bootstrap}${reference.blobs === null ? '' : `,blobs=${reference.blobs}`}`;
  }
}
