/** The result of `convert` for people. */
import type { ConvertResult } from '../convert/convert.ts';
import type { ImageReport, LayerReport } from '../convert/report.ts';
import type { Transfer } from '../convert/transfer.ts';
import { isStream, parseReference } from '../image/reference.ts';
import { alignColumns, humanBytes, humanDuration } from '../observe/human.ts';

const KINDS = {
  uploaded: 'uploaded',
  there: 'already there',
  reused: 'reused',
  mounted: 'mounted',
  copied: 'copied',
} as const satisfies Record<keyof Transfer, string>;

/** Lines: each image with its layers, what all of it took, and last the target with its digest. */
export function describeConversion(result: ConvertResult): string {
  const all = `${describeTransfer(result.transfer)} in ${humanDuration(result.duration)}`;
  return [...result.images.flatMap(describeImage), all, targetOf(result)].join('\n');
}

function describeImage(image: ImageReport): string[] {
  const { platform, layers, isReused } = image;
  const before = sum(layers.map(({ sourceSize }) => sourceSize));
  const index = sum(layers.map(({ metaSize }) => metaSize)) + image.bootstrap.size;
  const after = sum(layers.map(({ blobSize }) => blobSize)) + index;
  const sizes = layers.some(isReference)
    ? `${humanBytes(before)} stay as they are, index ${humanBytes(index)}`
    : `${humanBytes(before)} -> ${humanBytes(after)}`;
  const count = `${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}`;
  if (isReused) return [`${platform}: ${count}, ${sizes}, unchanged`];
  const rows = [
    ...layers.map(describeLayer),
    ['  bootstrap', short(image.bootstrap.digest), '', '', humanBytes(image.bootstrap.size)],
  ];
  return [
    `${platform}: ${count}, ${sizes}`,
    ...alignColumns(rows, [2, 4, 6]),
    ...image.dictionary.map(describeReferred),
  ];
}

/** The original layer is the data. */
const isReference = ({ blob, source, meta }: LayerReport): boolean => meta !== null && blob === source;

function describeLayer(layer: LayerReport): string[] {
  const { source, sourceSize, blob, blobSize, metaSize, transfer, duration } = layer;
  const after = blob === null ? 'no data' : humanBytes(isReference(layer) ? metaSize : blobSize + metaSize);
  const time = layer.isReused ? '' : humanDuration(duration);
  const how = (Object.keys(KINDS) as Array<keyof Transfer>).filter((kind) => transfer[kind] > 0);
  const what = isReference(layer) ? 'index' : '->';
  return [
    '  layer',
    short(source),
    humanBytes(sourceSize),
    what,
    after,
    how.map((kind) => KINDS[kind]).join(', '),
    time,
  ];
}

const describeReferred = ({ blob, access, chunks, savedBytes }: ImageReport['dictionary'][number]): string =>
  `  refers to ${short(blob)} (${access === 'there' ? KINDS.there : access}): ` +
  `${chunks} chunks, ${humanBytes(savedBytes)} not stored again`;

function describeTransfer(transfer: Transfer): string {
  const kinds = (Object.keys(KINDS) as Array<keyof Transfer>).filter(
    (kind) => kind === 'uploaded' || transfer[kind] > 0,
  );
  return kinds.map((kind) => `${humanBytes(transfer[kind])} ${KINDS[kind]}`).join(', ');
}

/** The name of the result for other programs: engines do not accept `docker://`, and a pipe has only the image's name. */
function targetOf({ target, name, digest }: ConvertResult): string {
  const reference = parseReference(target);
  if (isStream(reference)) return name === null ? digest : `${name}@${digest}`;
  // Without a name the digest is the ref of a layout.
  if (reference.transport !== 'docker')
    return `${target}${'ref' in reference && reference.ref === null ? ':' : '@'}${digest}`;
  return reference.digest === null ? `${target.slice('docker://'.length)}@${digest}` : target.slice('docker://'.length);
}

const short = (digest: string): string => digest.slice(7, 19);

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
