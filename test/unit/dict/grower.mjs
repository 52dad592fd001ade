/** A process of its own that lets a dictionary grow: `DATABASE PREFIX COUNT CHUNKS`. Says each blob that it has added. */
import { createHash } from 'node:crypto';
import { SqliteDict } from '../../../dist/dict/sqlite-dict.js';

const [path, prefix, count, chunkCount] = process.argv.slice(2);
const hash = (text) => createHash('sha256').update(text).digest();

const dict = await SqliteDict.open(path);
for (let i = 0; i < Number(count); i++) {
  const id = hash(`${prefix} ${i}`).toString('hex');
  const blob = {
    ...{ id, chunkSize: 4096, chunkCount: Number(chunkCount), compressor: 3, digester: 0, features: 1 },
    ...{ compressedSize: 1e6, uncompressedSize: 1e9, tocSize: 0, tocDigest: Buffer.alloc(32) },
    ...{ ciCompressor: 0, ciOffset: 0, ciCompressedSize: 0, ciUncompressedSize: 0 },
    ...{ cipher: null, metaDigest: null, metaSize: 0 },
  };
  const chunks = Array.from({ length: Number(chunkCount) }, (_, index) => ({
    ...{ uncompressedOffset: index * 4096, uncompressedSize: 4096, compressedOffset: index * 100, compressedSize: 100 },
    ...{ compressor: 3, digester: 0, digest: hash(`${id} ${index}`), blob: id, index, crc32c: 7, within: null },
  }));
  dict.add([{ blob, size: 1e6, meta: Buffer.from(id), places: [`docker://registry.example/${prefix}`], chunks }]);
  process.stdout.write(`${id}\n`);
}
dict[Symbol.dispose]();
