//! Chunk tables: the 64-byte records of `src/blob/table.ts`, validated once, then trusted.

use crate::error::{Error, Result};
use lacuna_codec::{MAX_CHUNK_SIZE, MAX_UNIT_SIZE};

pub const RECORD_SIZE: usize = 64;
/// Device files and the places of chunks in them are multiples of this.
pub const BLOCK_SIZE: u64 = 4096;
/// 16 TiB: the largest file of ext4 with 4 KiB blocks, which the cache file has to be.
pub const MAX_DEVICE_SIZE: u64 = 1 << 44;
/// 256 MiB of records; at 128 KiB a chunk, half a TiB of content.
pub const MAX_CHUNKS: usize = 1 << 22;
/// Offsets into remote blobs are integers that JavaScript's numbers hold.
pub const MAX_BLOB_SIZE: u64 = 1 << 53;

/// One chunk: its place in the device, its place in the blob, how it is stored, what it hashes to. Two chunks are the
/// same when all 64 bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record(pub [u8; RECORD_SIZE]);

impl Record {
    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }

    /// Where it begins in the device.
    pub fn offset(&self) -> u64 {
        self.u64_at(0)
    }

    /// Length of the plain content.
    pub fn size(&self) -> u32 {
        self.u32_at(20)
    }

    /// Where it ends in the device; cannot overflow in a valid record.
    pub fn end(&self) -> u64 {
        self.offset().saturating_add(u64::from(self.size()))
    }

    pub fn compressed_offset(&self) -> u64 {
        self.u64_at(8)
    }

    pub fn compressed_size(&self) -> u32 {
        self.u32_at(16)
    }

    pub fn compressor(&self) -> u8 {
        self.0[24]
    }

    pub fn digester(&self) -> u8 {
        self.0[25]
    }

    pub fn digest(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.0[32 + i])
    }

    /// The field that is out of its bounds, with its place in the record and what is wrong.
    pub fn problem(&self) -> Option<(&'static str, usize, String)> {
        let sized = |size: u32, max: usize| (1..=max).contains(&(size as usize));
        let of_size = |size: u32, max: usize| format!("{size} is not 1…{max}");
        if !self.offset().is_multiple_of(BLOCK_SIZE) || self.offset() > MAX_DEVICE_SIZE {
            Some(("uncompressed_offset", 0, format!("{} is unaligned or too large", self.offset())))
        } else if self.compressed_offset() > MAX_BLOB_SIZE {
            Some(("compressed_offset", 8, format!("{} is too large", self.compressed_offset())))
        } else if !sized(self.compressed_size(), MAX_UNIT_SIZE) {
            // Where the chunk lies within a unit, this is the unit's.
            Some(("compressed_size", 16, of_size(self.compressed_size(), MAX_UNIT_SIZE)))
        } else if !sized(self.size(), MAX_CHUNK_SIZE) {
            Some(("uncompressed_size", 20, of_size(self.size(), MAX_CHUNK_SIZE)))
        } else if self.compressor() > 3 {
            Some(("compressor", 24, format!("{} is none of 0…3", self.compressor())))
        } else if self.digester() > 1 {
            Some(("digester", 25, format!("{} is none of 0, 1", self.digester())))
        } else {
            None
        }
    }
}

/// The chunks of a device, sorted by place, not overlapping, all inside of its size.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    records: Vec<Record>,
}

impl Table {
    /// Checks everything; nothing in `bytes` is trusted.
    pub fn decode(bytes: &[u8], device_size: u64) -> Result<Table> {
        if !device_size.is_multiple_of(BLOCK_SIZE) || device_size > MAX_DEVICE_SIZE {
            return Err(Error::Usage(format!(
                "size: {device_size} is no multiple of {BLOCK_SIZE} up to {MAX_DEVICE_SIZE}"
            )));
        }
        let (chunks, rest) = bytes.as_chunks::<RECORD_SIZE>();
        if !rest.is_empty() || chunks.len() > MAX_CHUNKS {
            let problem = format!("{} is no multiple of {RECORD_SIZE} up to {MAX_CHUNKS} records", bytes.len());
            return Err(Error::Format { field: "length", offset: bytes.len(), problem });
        }
        let mut free_from = 0;
        for (index, chunk) in chunks.iter().enumerate() {
            let record = Record(*chunk);
            let place = index * RECORD_SIZE;
            let wrong = |field, at, problem| Err(Error::Format { field, offset: place + at, problem });
            if let Some((field, at, problem)) = record.problem() {
                return wrong(field, at, problem);
            }
            if chunk[26..32] != [0; 6] {
                return wrong("reserved", 26, "not zero".to_owned());
            }
            if record.offset() < free_from {
                let problem = format!("{} is inside of the chunk before, which ends at {free_from}", record.offset());
                return wrong("uncompressed_offset", 0, problem);
            }
            if record.end() > device_size {
                let problem = format!("the chunk ends at {}, the device at {device_size}", record.end());
                return wrong("uncompressed_size", 20, problem);
            }
            free_from = record.end();
        }
        Ok(Table { records: chunks.iter().map(|chunk| Record(*chunk)).collect() })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn get(&self, chunk: u32) -> Option<&Record> {
        self.records.get(chunk as usize)
    }

    /// The chunks that have bytes in `start..end`, ascending.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u32, &Record)> {
        let first = self.records.partition_point(|record| record.end() <= start);
        self.records
            .iter()
            .enumerate()
            .skip(first)
            .take_while(move |(_, record)| record.offset() < end)
            // A table has at most MAX_CHUNKS records.
            .map(|(index, record)| (index as u32, record))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn record(offset: u64, size: u32, mark: u8) -> Record {
        let mut bytes = [0u8; RECORD_SIZE];
        bytes[0..8].copy_from_slice(&offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&size.to_le_bytes());
        bytes[20..24].copy_from_slice(&size.to_le_bytes());
        bytes[32] = mark;
        Record(bytes)
    }

    pub fn bytes(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(|record| record.0).collect()
    }

    #[test]
    fn chunks_are_found_by_range_and_gaps_are_no_chunks() {
        let table = bytes(&[record(0, 5000, 1), record(8192, 4096, 2), record(20480, 1, 3)]);
        let table = Table::decode(&table, 24576).unwrap();
        let within = |start, end| table.within(start, end).map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(within(0, 1), [0]);
        assert_eq!(within(4999, 5000), [0]);
        assert_eq!(within(5000, 8192), [] as [u32; 0]);
        assert_eq!(within(4096, 8193), [0, 1]);
        assert_eq!(within(0, 24576), [0, 1, 2]);
        assert_eq!(within(20481, 24576), [] as [u32; 0]);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn hostile_tables_are_refused_with_field_and_offset() {
        let patched = |at: usize, value: &[u8]| {
            let mut table = bytes(&[record(0, 4096, 1), record(4096, 4096, 2)]);
            table[at..at + value.len()].copy_from_slice(value);
            table
        };
        let max = u64::MAX.to_le_bytes();
        let cases: &[(Vec<u8>, &str, usize)] = &[
            (vec![0; 65], "length", 65),
            (patched(64, &[0; 8]), "uncompressed_offset", 64),
            (patched(64, &4097u64.to_le_bytes()), "uncompressed_offset", 64),
            (patched(64, &max), "uncompressed_offset", 64),
            (patched(64, &(1u64 << 63).to_le_bytes()), "uncompressed_offset", 64),
            (patched(8, &max), "compressed_offset", 8),
            (patched(16, &[0; 4]), "compressed_size", 16),
            (patched(16, &[255; 4]), "compressed_size", 16),
            (patched(20, &[0; 4]), "uncompressed_size", 20),
            (patched(84, &[255; 4]), "uncompressed_size", 84),
            (patched(84, &4097u32.to_le_bytes()), "uncompressed_size", 84),
            (patched(24, &[4]), "compressor", 24),
            (patched(25, &[2]), "digester", 25),
            (patched(26, &[1]), "reserved", 26),
            (patched(31, &[1]), "reserved", 26),
        ];
        for (table, field, offset) in cases {
            match Table::decode(table, 8192) {
                Err(Error::Format { field: f, offset: o, .. }) => assert_eq!((f, o), (*field, *offset)),
                other => panic!("{field}: {other:?}"),
            }
        }
        assert!(matches!(Table::decode(&[], 4095), Err(Error::Usage(_))));
        assert!(matches!(Table::decode(&[], 1 << 45), Err(Error::Usage(_))));
    }
}
