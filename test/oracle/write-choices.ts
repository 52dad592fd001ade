/** The choices of `convert` that Nydus knows, and the rows of the table in which each meets each other at least once. */
import { COMPRESSORS, type ConvertOptions, DIGESTERS } from '../../src/convert/options.ts';
import { FEATURE } from '../../src/formats/rafs/layout.ts';
import type { RafsImage } from '../../src/formats/rafs/open.ts';
import { type Choices, pairwise } from '../kit/pairwise.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** What both kinds of images have; `nasty` has three layers, `tame-1` one. */
const COMMON = {
  chunkSize: [4 * KIB, 64 * KIB, 128 * KIB, MIB, 16 * MIB],
  prefetch: [false, true],
  align: [512 * KIB, 4 * KIB],
  source: ['nasty', 'tame-1'],
} as const;

/** Images with blobs of their own. */
const OWN = {
  ...COMMON,
  compressor: ['zstd', 'lz4', 'none'],
  digester: ['blake3', 'sha256'],
  batchSize: [0, 128 * KIB],
  blob: ['one', 'separate'],
  dedup: ['merge', 'image'],
  dict: [false, true],
} as const;

type Own = Choices<typeof OWN>;
type Referring = Choices<typeof COMMON> & { readonly ociRef: true };
export type WriteRow = Own | Referring;

export const ROWS: readonly WriteRow[] = [
  ...pairwise(OWN),
  ...pairwise(COMMON).map((row) => ({ ...row, ociRef: true }) as const),
];

/** In the order in which a reader shall fetch them: a file, a directory, a name that is not there. */
const PREFETCH = ['/xattr', '/links', '/not/there'];

/** Without the dictionary, which is an image that was made with {@link dictOptionsOf}. */
export function optionsOf(row: WriteRow): ConvertOptions {
  const { source: _, prefetch, ...rest } = row;
  const { dict: __, ...options } = 'dict' in rest ? rest : { dict: false, ...rest };
  return { ...options, ...(prefetch ? { prefetch: PREFETCH } : {}) };
}

/** Chunks are referred to only in blobs that bring their chunk info with them. */
export const dictOptionsOf = (row: WriteRow): ConvertOptions => ({ ...optionsOf(row), blob: 'one' });

/** What the choices have to leave in an image, as {@link traitsOf} finds it. */
export function traitsOfRow(row: WriteRow) {
  const own = 'ociRef' in row ? ({ digester: 'sha256', batchSize: 0, blob: 'separate' } as const) : row;
  return {
    chunkSize: row.chunkSize,
    prefetch: row.prefetch,
    compressor: 'ociRef' in row ? GZIP : COMPRESSORS[row.compressor],
    digester: DIGESTERS[own.digester],
    batches: own.batchSize > 0,
    separate: own.blob === 'separate',
    refers: 'ociRef' in row,
  };
}

/** Nydus's number for it; only referred layers have it. */
const GZIP = 2;

/** Of an image's first blob, and of the image. */
export function traitsOf({ superblock, blobs }: RafsImage): ReturnType<typeof traitsOfRow> {
  const [{ compressor, digester, features, chunkSize }] = blobs as [RafsImage['blobs'][number]];
  return {
    chunkSize,
    prefetch: superblock.prefetchTableSize > 0,
    compressor,
    digester,
    batches: (features & FEATURE.BATCH) !== 0,
    separate: (features & FEATURE.SEPARATE) !== 0,
    refers: (features & FEATURE.ZRAN) !== 0,
  };
}

/** What `nydus-image check` 2.2.0 does not know, or null. */
export function unknownTo22(row: WriteRow): string | null {
  return 'batchSize' in row && row.batchSize > 0 ? 'batches are younger than 2.2.0' : null;
}

const size = (bytes: number): string => (bytes % MIB === 0 ? `${bytes / MIB} MiB` : `${bytes / KIB} KiB`);

/** One line for a row. */
export function titleOf(row: WriteRow): string {
  const data =
    'ociRef' in row
      ? ['refers to the gzip layers']
      : [
          row.compressor,
          row.digester,
          `batch ${row.batchSize === 0 ? '0' : size(row.batchSize)}`,
          row.blob,
          row.dedup,
          row.dict ? 'dict' : '',
        ];
  const rest = [size(row.chunkSize), `align ${size(row.align)}`, row.prefetch ? 'prefetch' : '', row.source];
  return [...data, ...rest].filter(Boolean).join(' · ');
}

/** The table as a page: which rows there are, and why others are not. */
export function tableText(): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = [
    'chunks',
    'data',
    'digester',
    'batch',
    'blob',
    'dedup',
    'dict',
    'prefetch',
    'align',
    'layers of',
    'not asked',
  ];
  const rows = ROWS.map((row) => {
    const own =
      'ociRef' in row
        ? ['the gzip layers', 'sha256', '', '', '', '']
        : [
            row.compressor,
            row.digester,
            row.batchSize === 0 ? '' : size(row.batchSize),
            row.blob,
            row.dedup,
            row.dict ? 'yes' : '',
          ];
    const rest = [row.prefetch ? 'yes' : '', size(row.align), row.source];
    const unknown = unknownTo22(row);
    return [size(row.chunkSize), ...own, ...rest, unknown === null ? '' : `nydus-image check 2.2.0: ${unknown}`];
  });
  return `# What is written, and who reads it

Each row is converted from the fixtures and compared with the ground truth, path by path and byte by byte, as seen by
Nydus's own reader (crate \`nydus-rafs\` 0.4.1), by the kernel's EROFS, by \`go-erofs\` 0.3.1 and by \`erofs-rs\` 0.3; and it is
accepted by \`fsck.erofs\` and by \`nydus-image check\` 2.2.0. \`write-table.test.ts\` does it, \`write-choices.ts\` makes the rows:
any two choices meet in at least one of them. \`nasty\` has three layers with everything in them, \`tame-1\` one. A dictionary
is the image of the other, made with the same choices but for the form \`one\`.

Left out, with the reason:

${LEFT_OUT.map(([what, why]) => `- ${what}: ${why}.`).join('\n')}

${[head, head.map(() => '---'), ...rows].map(line).join('\n')}
`;
}

const LEFT_OUT: ReadonlyArray<readonly [what: string, why: string]> = [
  [
    'reference of the gzip layers with a compressor, another digester, batches, a blob form, dedup or a dictionary',
    'layers that stay as they are leave nothing to choose, and Nydus names their chunks by SHA-256',
  ],
  [
    'access control lists',
    "2.2.0's check refuses them, also in what it has written, and go-erofs misspells their name; here they are another " +
      'attribute of as many bytes, and `convert-nydus.test.ts` has them as they are',
  ],
  ['a dictionary whose blobs have their chunk info apart', 'it is not offered: the blob alone has to be enough'],
  ['encrypted blobs and tarfs', 'read, not written'],
];
