/** Every on-disk structure that is described by a table of fields, for the documentation and for what all tables must be. */
import { type Field, IntField } from '../../src/binary/fields.ts';
import type { Fields, Struct } from '../../src/binary/struct.ts';
import { BLOB_CIPHER, BLOB_ENTRY, BLOB_META_FILE } from '../../src/formats/rafs/blob-entry.ts';
import { CHUNK_ENTRY } from '../../src/formats/rafs/chunk-entry.ts';
import { CHUNK_INDEX } from '../../src/formats/rafs/chunk-index.ts';
import { BATCH_CONTEXT, SPAN_CONTEXT } from '../../src/formats/rafs/chunk-info-context.ts';
import { CHUNK_INFO_V1, CHUNK_INFO_V2 } from '../../src/formats/rafs/chunk-info-entry.ts';
import { CI_HEADER } from '../../src/formats/rafs/chunk-info-header.ts';
import { DEVICE_SLOT } from '../../src/formats/rafs/device-slot.ts';
import { DIRENT } from '../../src/formats/rafs/dirent.ts';
import { COMPACT_INODE, EXTENDED_INODE } from '../../src/formats/rafs/inode.ts';
import { EXTENDED_SUPERBLOCK, SUPERBLOCK } from '../../src/formats/rafs/superblock.ts';
import { TOC_ENTRY } from '../../src/formats/rafs/toc.ts';
import { XATTR_ENTRY, XATTR_HEADER } from '../../src/formats/rafs/xattr.ts';
import { TAR_HEADER } from '../../src/tree/tarheader.ts';

export const STRUCTURES: ReadonlyArray<Struct<Fields>> = [
  SUPERBLOCK,
  EXTENDED_SUPERBLOCK,
  DEVICE_SLOT,
  BLOB_ENTRY,
  BLOB_META_FILE,
  BLOB_CIPHER,
  EXTENDED_INODE,
  COMPACT_INODE,
  XATTR_HEADER,
  XATTR_ENTRY,
  DIRENT,
  CHUNK_INDEX,
  CHUNK_ENTRY,
  CHUNK_INFO_V1,
  CHUNK_INFO_V2,
  BATCH_CONTEXT,
  SPAN_CONTEXT,
  CI_HEADER,
  TOC_ENTRY,
  TAR_HEADER,
];

const meaningOf = (field: Field<unknown>): string => {
  const only = field instanceof IntField && field.only !== null ? [`always 0x${field.only.toString(16)}`] : [];
  return [...only, ...(field.meaning === '' ? [] : [field.meaning])].join('; ');
};

function sectionOf({ name, source, size, fields }: Struct<Fields>): string {
  const rows = Object.values(fields).map((field) => {
    const cells = [field.at, field.size, field.type, `\`${field.name}\``, meaningOf(field)];
    return `| ${cells.join(' | ')} |`;
  });
  const head = ['| offset | bytes | type | field | meaning and bounds |', '|---|---|---|---|---|'];
  return [`## ${name}`, '', `${size} bytes; ${source}.`, '', ...head, ...rows, ''].join('\n');
}

/** What docs/structures.md has to have. */
export const structuresPage = (): string =>
  [
    '# On-disk structures',
    '',
    'Every structure of RAFS v6 images and their blobs that Lacuna reads or writes, and the header of tars. Names are those of',
    'the sources named; integers are little-endian, offsets and sizes in bytes. The tables of fields in `src/formats/rafs` and',
    '`src/tree/tarheader.ts` are what the code decodes, encodes and checks with; this page is made of them by',
    '`npx vitest run test/unit/docs.test.ts --update`.',
    '',
    ...STRUCTURES.map(sectionOf),
  ].join('\n');
