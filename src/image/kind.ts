/** Whether a document is an image, an index, or one of the other things that registries keep beside them. */
import { FormatError, LacunaError } from '../errors.ts';
import { parseJson } from './json.ts';
import { type Descriptor, isSchema1, MAX_MANIFEST_SIZE, type Manifest, schema1 } from './manifest.ts';
import { ANNOTATION, DOCKER_SCHEMA1, isIndex, isManifest, layerCompression, MEDIA } from './media.ts';

/** Types of configs that engines take for an image's: those after the first three come from old clients and registries. */
const IMAGE_CONFIGS: readonly string[] = [
  MEDIA.ociConfig,
  MEDIA.dockerConfig,
  MEDIA.nydusConfig,
  // moby, daemon/internal/distribution/registry.go: distribution#1621, moby#22378, moby#30083
  'application/octet-stream',
  'application/json',
  'text/html',
];

/** BuildKit's annotation on the entry of an attestation, which is about the entry of another digest. */
const REFERENCE_TYPE = 'vnd.docker.reference.type';

/** Whether the layer is a tar, or a part of a lazy image. */
const isImageLayer = ({ mediaType, annotations }: Descriptor): boolean =>
  layerCompression(mediaType) !== null ||
  mediaType === MEDIA.nydusBlob ||
  annotations?.[ANNOTATION.nydusBlob] === 'true';

/**
 * The type of what the manifest is when it is not an image's (a chart, a signature, an attestation), null for an image.
 * Its config says so, and where an artifact has that of an image, its layers do.
 */
export function artifactTypeOf({ artifactType, config, layers }: Manifest): string | null {
  const isLazy = layers.at(-1)?.annotations?.[ANNOTATION.nydusBootstrap] === 'true';
  if (isLazy || artifactType === MEDIA.nydusArtifact) return null;
  if (!IMAGE_CONFIGS.includes(config.mediaType)) {
    return config.mediaType === MEDIA.ociEmpty ? (artifactType ?? config.mediaType) : config.mediaType;
  }
  const [first] = layers;
  return first === undefined || layers.some(isImageLayer) ? null : first.mediaType;
}

/** Whether an entry of an index may be an image: its manifest tells for certain. */
export function mayBeImage({ mediaType, artifactType, platform, annotations }: Descriptor): boolean {
  if (!isManifest(mediaType) || platform?.os === 'unknown' || annotations?.[REFERENCE_TYPE] !== undefined) return false;
  return artifactType === undefined || artifactType === MEDIA.nydusArtifact || IMAGE_CONFIGS.includes(artifactType);
}

/** The error of a reference that means something else than an image. */
export const notAnImage = (mediaType: string, subject: string): LacunaError =>
  DOCKER_SCHEMA1.includes(mediaType)
    ? schema1('resolve', subject)
    : new LacunaError('UNSUPPORTED', `${subject} is not an image but ${mediaType}, which is not supported`, {
        op: 'resolve',
        subject,
      });

/** Whether a content type names a kind of document. Registries also send `text/plain`, `application/octet-stream` and so on. */
const isTelling = (type: string): boolean => type.startsWith('application/vnd.') || type.endsWith('+json');

/**
 * The media type of a manifest or index: what its registry says (`said`, empty where nobody does) and the document itself,
 * which must not differ (CVE-2021-41190); where neither says, by what it holds, as containers/image guesses. Throws
 * UNSUPPORTED for what names itself something else, PROTOCOL or FORMAT for a contradiction and for what names nothing.
 */
export function manifestTypeOf(bytes: Uint8Array, said: string, subject: string): string {
  const purpose = { op: 'resolve', subject };
  const document = parseJson(bytes, { ...purpose, limit: MAX_MANIFEST_SIZE });
  const fields = (typeof document === 'object' ? document : null) ?? {};
  if (isSchema1(fields) || DOCKER_SCHEMA1.includes(said)) throw schema1('resolve', subject);
  const field = 'mediaType' in fields && typeof fields.mediaType === 'string' ? fields.mediaType : '';
  const isContradiction = isKnown(said) && field !== '' && field !== said;
  const type = [isKnown(field) ? field : '', said, field].find(isTelling) ?? guess(fields);
  if (isKnown(type) && !isContradiction) return type;
  if (isTelling(type) && !isContradiction) throw notAnImage(printable(type), subject);
  if (said === '') throw new FormatError('mediaType', 'not a manifest or index', purpose);
  const found = field === '' ? 'is neither a manifest nor an index' : `says ${JSON.stringify(printable(field))}`;
  const problem = `the registry sent it as ${JSON.stringify(printable(said))}, and the document ${found}`;
  throw new LacunaError('PROTOCOL', problem, purpose);
}

const isKnown = (type: string): boolean => isManifest(type) || isIndex(type);

function guess(fields: object): string {
  if ('manifests' in fields) return 'config' in fields || 'layers' in fields ? '' : MEDIA.ociIndex;
  return 'config' in fields ? MEDIA.ociManifest : '';
}

const printable = (type: string): string => type.replace(/[^\x20-\x7e]/g, '?').slice(0, 128);
