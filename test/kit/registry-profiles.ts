/** How known registries differ from the specification, as users and the documents of their makers report. */
import type { RegistryOptions } from './registry.ts';
import type { Reply } from './registry-faults.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';

const json = (status: number, type: string, value: unknown): Reply => ({
  status,
  headers: { 'content-type': type },
  body: Buffer.from(JSON.stringify(value)),
});

export const PROFILES = {
  /** GitHub: at most 4 MiB a chunk. wash#268, rust-oci-client#37 */
  ghcr: { chunkMaxLength: 4 * 1024 * 1024, absoluteLocations: true },
  /** Google's Artifact Registry: no chunks. sdk-container-builds#287; an empty list of referrers may be null. */
  gar: {
    chunks: false,
    resumable: false,
    absoluteLocations: true,
    referrers: json(200, INDEX, { schemaVersion: 2, mediaType: INDEX, manifests: null }),
  },
  /** GitLab: the tag that lists referrers is the subject; a mount out of the token's scope is 401. oras-go#1396 */
  gitlab: { tagsAreDigests: true, mounts: 401 },
  /** A proxy before Harbor that wants to know the length of a body, and answers 401 where it has no route. harbor#18305 */
  'harbor-proxy': {
    streams: false,
    mounts: 403,
    referrers: json(401, 'application/json', { errors: [{ code: 'UNAUTHORIZED' }] }),
  },
  /** Quay: 400 to the referrers of what it does not know. quay#3071 */
  quay: { mounts: 404, referrers: json(400, 'application/json', { errors: [{ code: 'MANIFEST_INVALID' }] }) },
  /** docker-registry 2.8: an upload whose request was cut is gone. */
  'docker-registry': { resumable: false },
  /** Answers with every success but the usual one, and as few headers as can be. */
  terse: {
    statuses: { patch: 204, put: 204 },
    terse: true,
    manifestStatus: 204,
    lacks: ['docker-content-digest', 'accept-ranges'],
  },
  /** A proxy that takes at most 1 MiB a request, whatever it is. */
  'small-bodies': { bodyMaxLength: 1024 * 1024, streams: false },
  /** A console is in the way of what the registry does not know. registry.k8s.io#287 */
  console: {
    mounts: 405,
    referrers: { status: 200, headers: { 'content-type': 'text/html' }, body: Buffer.from('<!doctype html>') },
  },
} satisfies Readonly<Record<string, RegistryOptions>>;
