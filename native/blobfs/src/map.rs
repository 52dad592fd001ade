//! The chunk map of a store: an append-only log of the chunks that are in its data file. Bytes only, no I/O but one
//! small read for the boot id.
//!
//! A header of 32 bytes: magic, the boot under which the entries were written, the inode of the data file they speak
//! of. Then entries of 64 bytes: records of `table`, with flags in their reserved field and a CRC-32C in their check
//! field. A later entry about the same chunk replaces an earlier one. What follows the first damaged entry is cut off:
//! it was being written when the process or the machine died.

use crate::table::{RECORD_SIZE, Record};
use lacuna_sys::SysError;

pub const HEADER_SIZE: usize = 32;
const MAGIC: &[u8; 8] = b"LACMAP01";
const FLAGS_AT: usize = 26;
const CHECK_AT: usize = 28;

/// Names one uptime of the kernel. Within it, what a process wrote is there for the next; across, it may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootId([u8; 16]);

impl BootId {
    /// The kernel's own.
    pub fn current() -> Result<BootId, SysError> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let text = std::fs::read_to_string(PATH).map_err(|e| SysError::from_io("read", PATH, &e))?;
        BootId::parse(text.trim()).ok_or_else(|| SysError::new("parse", PATH, libc::EINVAL))
    }

    /// From the text form of a UUID.
    pub fn parse(text: &str) -> Option<BootId> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let number = u128::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        (digits.len() == 32).then(|| BootId(number.to_be_bytes()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub boot: BootId,
    pub data_inode: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.boot.0);
        bytes[24..].copy_from_slice(&self.data_inode.to_le_bytes());
        bytes
    }

    /// None when it is not one of ours: too short, another magic.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER_SIZE)?;
        (&bytes[..8] == MAGIC).then(|| Header {
            boot: BootId(std::array::from_fn(|i| bytes[8 + i])),
            data_inode: u64::from_le_bytes(std::array::from_fn(|i| bytes[24 + i])),
        })
    }
}

/// What an entry says about its chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// Written and verified in the header's boot.
    Present,
    /// Written in an earlier boot, or into another data file: to be verified before use.
    Unverified,
    /// Not there any more.
    Removed,
}

pub fn encode_entry(record: &Record, mark: Mark) -> [u8; RECORD_SIZE] {
    let mut bytes = record.0;
    bytes[FLAGS_AT] = match mark {
        Mark::Present => 0,
        Mark::Unverified => 1,
        Mark::Removed => 2,
    };
    let check = crc32c::crc32c(&bytes);
    bytes[CHECK_AT..CHECK_AT + 4].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// None when the entry is damaged.
pub fn decode_entry(entry: &[u8; RECORD_SIZE]) -> Option<(Record, Mark)> {
    let mut bytes = *entry;
    bytes[CHECK_AT..CHECK_AT + 4].fill(0);
    if entry[CHECK_AT..CHECK_AT + 4] != crc32c::crc32c(&bytes).to_le_bytes() {
        return None;
    }
    let mark = match bytes[FLAGS_AT..FLAGS_AT + 2] {
        [0, 0] => Mark::Present,
        [1, 0] => Mark::Unverified,
        [2, 0] => Mark::Removed,
        _ => return None,
    };
    bytes[FLAGS_AT] = 0;
    let record = Record(bytes);
    record.problem().is_none().then_some((record, mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::record;

    #[test]
    fn entries_round_trip_and_damage_is_seen() {
        for mark in [Mark::Present, Mark::Unverified, Mark::Removed] {
            let entry = encode_entry(&record(4096, 100, 7), mark);
            assert_eq!(decode_entry(&entry), Some((record(4096, 100, 7), mark)));
            for at in 0..RECORD_SIZE {
                let mut damaged = entry;
                damaged[at] ^= 1;
                assert_eq!(decode_entry(&damaged), None, "byte {at}");
            }
        }
        assert_eq!(decode_entry(&[0; RECORD_SIZE]), None);
    }

    #[test]
    fn headers_round_trip() {
        let boot = BootId::parse("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let header = Header { boot, data_inode: 99 };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert_eq!(Header::decode(&header.encode()[..31]), None);
        assert_eq!(Header::decode(&[0; 32]), None);
        assert_eq!(BootId::parse("0011"), None);
        assert!(BootId::current().is_ok());
    }
}
