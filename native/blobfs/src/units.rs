//! Which chunks of a device lie within units, and how those are decoded: the bytes of `src/blob/units.ts`, validated
//! once, then trusted.

use crate::error::{Error, Result};
use crate::table::{MAX_BLOB_SIZE, Table};
use lacuna_codec::{Compressor, MAX_UNIT_SIZE, MAX_WINDOW_SIZE, UnitDecoder, XTS_IV_SIZE, XTS_KEY_SIZE, ZranState};
use std::ops::Range;

const HEADER_SIZE: usize = 16;
const UNIT_SIZE: usize = 32;
const MEMBER_SIZE: usize = 8;

/// What is fetched and decoded in one piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    pub compressed_size: u32,
    /// Bytes it decodes to.
    pub size: u32,
    kind: Kind,
    members: Range<u32>,
}

/// A part of a unit that is a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub chunk: u32,
    /// Where it begins in the plain unit; its end was found to lie in it as well.
    pub offset: u32,
}

/// What the unit's decoder needs; ranges are of the state.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Batch(Compressor),
    Zran { window: Range<usize>, bits: u8, byte: u8 },
    Encrypted { key_iv: Range<usize>, compressor: Compressor },
}

/// The units of a device. Keys are in it: it is never printed.
#[derive(PartialEq, Eq)]
pub struct Units {
    units: Vec<Unit>,
    members: Vec<Member>,
    /// By chunk: one more than the index of its unit; 0 when it is stored alone.
    of_chunk: Vec<u32>,
    /// Windows and keys.
    state: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn wrong(field: &'static str, offset: usize, problem: impl Into<String>) -> Error {
    Error::Format { field, offset, problem: problem.into() }
}

impl Units {
    /// Checks everything; nothing in `bytes` is trusted.
    pub fn decode(bytes: &[u8], table: &Table) -> Result<Units> {
        let cut = || wrong("units length", bytes.len(), "the parts are not as long as promised");
        let (header, rest) = bytes.split_at_checked(HEADER_SIZE).ok_or_else(cut)?;
        let size_of = |at: usize, each: usize| (u32_at(header, at) as usize).checked_mul(each).ok_or_else(cut);
        let (units, rest) = rest.split_at_checked(size_of(0, UNIT_SIZE)?).ok_or_else(cut)?;
        let (members, state) = rest.split_at_checked(size_of(4, MEMBER_SIZE)?).ok_or_else(cut)?;
        if state.len() != u32_at(header, 8) as usize || header[12..] != [0; 4] {
            return Err(cut());
        }
        let mut decoded = Units {
            units: Vec::with_capacity(units.len() / UNIT_SIZE),
            members: Vec::with_capacity(members.len() / MEMBER_SIZE),
            of_chunk: vec![0; table.len()],
            state: state.to_vec(),
        };
        let (members, _) = members.as_chunks::<MEMBER_SIZE>();
        for (index, unit) in units.as_chunks::<UNIT_SIZE>().0.iter().enumerate() {
            decoded.add(unit, HEADER_SIZE + index * UNIT_SIZE, members, table)?;
        }
        if decoded.members.len() != members.len() {
            return Err(wrong("members", 4, "some belong to no unit"));
        }
        Ok(decoded)
    }

    fn add(
        &mut self,
        bytes: &[u8; UNIT_SIZE],
        place: usize,
        members: &[[u8; MEMBER_SIZE]],
        table: &Table,
    ) -> Result<()> {
        let compressed_offset = u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let (compressed_size, size) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if compressed_offset > MAX_BLOB_SIZE {
            return Err(wrong("unit compressed_offset", place, format!("{compressed_offset} is too large")));
        }
        for (field, at, value) in [("unit compressed_size", 8, compressed_size), ("unit size", 12, size)] {
            if !(1..=MAX_UNIT_SIZE).contains(&(value as usize)) {
                return Err(wrong(field, place + at, format!("{value} is not 1…{MAX_UNIT_SIZE}")));
            }
        }
        let kind = self.kind(bytes, place)?;
        let first = self.members.len();
        let count = u32_at(bytes, 28) as usize;
        let own = members.get(first..).and_then(|rest| rest.get(..count)).filter(|own| !own.is_empty());
        for member in own.ok_or_else(|| wrong("unit members", place + 28, format!("{count} are not there")))? {
            let member = Member { chunk: u32_at(member, 0), offset: u32_at(member, 4) };
            let problem =
                |problem: &str| Err(wrong("unit members", place, format!("chunk {}: {problem}", member.chunk)));
            let Some(record) = table.get(member.chunk) else { return problem("is none of the table") };
            if record.compressed_offset() != compressed_offset || record.compressed_size() != compressed_size {
                return problem("the table says that it is stored elsewhere");
            }
            if u64::from(member.offset) + u64::from(record.size()) > u64::from(size) {
                return problem("runs out of the unit");
            }
            let of_chunk = &mut self.of_chunk[member.chunk as usize];
            if *of_chunk != 0 {
                return problem("is in two units, or twice");
            }
            // There are fewer units than chunks, which a table bounds.
            *of_chunk = self.units.len() as u32 + 1;
            self.members.push(member);
        }
        let members = first as u32..self.members.len() as u32;
        self.units.push(Unit { compressed_size, size, kind, members });
        Ok(())
    }

    fn kind(&self, bytes: &[u8; UNIT_SIZE], place: usize) -> Result<Kind> {
        let [number, compressor, bits, byte] = [bytes[16], bytes[17], bytes[18], bytes[19]];
        let (start, size) = (u32_at(bytes, 20) as usize, u32_at(bytes, 24) as usize);
        let state = start..start.saturating_add(size);
        if self.state.get(state.clone()).is_none() {
            return Err(wrong("unit state", place + 20, format!("{size} bytes at {start} are not there")));
        }
        let compressor = || {
            Compressor::try_from(compressor)
                .map_err(|_| wrong("unit compressor", place + 17, format!("{compressor} is none of 0…3")))
        };
        match number {
            1 => Ok(Kind::Batch(compressor()?)),
            2 if bits > 7 => Err(wrong("unit bits", place + 18, format!("{bits} bits of a byte"))),
            2 if size > MAX_WINDOW_SIZE => Err(wrong("unit state", place + 24, format!("a window of {size} bytes"))),
            2 => Ok(Kind::Zran { window: state, bits, byte }),
            3 if size != XTS_KEY_SIZE + XTS_IV_SIZE => {
                Err(wrong("unit state", place + 24, format!("key and vector of {size} bytes")))
            }
            3 => Ok(Kind::Encrypted { key_iv: state, compressor: compressor()? }),
            _ => Err(wrong("unit kind", place + 16, format!("{number} is none of 1, 2, 3"))),
        }
    }

    /// The unit that the chunk lies within.
    pub fn of(&self, chunk: u32) -> Option<&Unit> {
        let number = *self.of_chunk.get(chunk as usize)?;
        self.units.get((number as usize).checked_sub(1)?)
    }

    pub fn members(&self, unit: &Unit) -> &[Member] {
        &self.members[unit.members.start as usize..unit.members.end as usize]
    }

    pub fn decoder(&self, unit: &Unit) -> UnitDecoder<'_> {
        match &unit.kind {
            Kind::Batch(compressor) => UnitDecoder::Batch(*compressor),
            Kind::Zran { window, bits, byte } => {
                UnitDecoder::Zran(ZranState { window: &self.state[window.clone()], bits: *bits, byte: *byte })
            }
            Kind::Encrypted { key_iv, compressor } => {
                let (key, rest) = self.state[key_iv.clone()].split_first_chunk().expect("its length was checked");
                let iv = rest.first_chunk().expect("its length was checked");
                UnitDecoder::Encrypted { key, iv, compressor: *compressor }
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::table::tests::{bytes, record};

    /// A unit of a batch kept raw, as bytes; `members`: chunk and offset.
    pub fn encode(size: u32, members: &[(u32, u32)], state: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_SIZE + UNIT_SIZE];
        let mut put = |at: usize, value: u32| out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, 1);
        put(4, members.len() as u32);
        put(8, state.len() as u32);
        put(HEADER_SIZE + 8, size);
        put(HEADER_SIZE + 12, size);
        put(HEADER_SIZE + 28, members.len() as u32);
        out[HEADER_SIZE + 16] = 1;
        for (chunk, offset) in members {
            out.extend_from_slice(&chunk.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        [&out, state].concat()
    }

    /// Chunks of 100 and 200 bytes that share a unit of 300, and one that stands alone.
    pub fn records() -> [crate::table::Record; 3] {
        let mut records = [record(0, 100, 1), record(4096, 200, 2), record(8192, 50, 3)];
        for record in &mut records[..2] {
            record.0[16..20].copy_from_slice(&300u32.to_le_bytes());
        }
        records
    }

    fn decode(units: &[u8]) -> Result<Units> {
        Units::decode(units, &Table::decode(&bytes(&records()), 12288).unwrap())
    }

    #[test]
    fn chunks_find_their_unit() {
        let units = decode(&encode(300, &[(1, 100), (0, 0)], &[])).unwrap();
        let unit = units.of(0).unwrap();
        assert!(std::ptr::eq(unit, units.of(1).unwrap()));
        assert_eq!(units.members(unit).iter().map(|member| member.chunk).collect::<Vec<_>>(), [1, 0]);
        assert!(units.of(2).is_none());
        assert!(units.of(3).is_none());
        assert!(matches!(units.decoder(unit), UnitDecoder::Batch(Compressor::None)));
    }

    #[test]
    fn hostile_units_are_refused_with_field_and_offset() {
        let good = encode(300, &[(0, 0), (1, 100)], &[7; 48]);
        let patched = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            bytes
        };
        decode(&good).unwrap();
        decode(&patched(32, &[3, 1, 0, 0, 0, 0, 0, 0, 48])).unwrap();
        let max = [255; 4];
        let cases = [
            (Vec::new(), "units length", 0),
            (good[..good.len() - 1].to_vec(), "units length", good.len() - 1),
            ([&good[..], &[0]].concat(), "units length", good.len() + 1),
            (patched(0, &max), "units length", good.len()),
            (patched(4, &max), "units length", good.len()),
            (patched(8, &max), "units length", good.len()),
            (patched(12, &[1]), "units length", good.len()),
            (patched(16, &[255; 8]), "unit compressed_offset", 16),
            (patched(24, &[0; 4]), "unit compressed_size", 24),
            (patched(24, &max), "unit compressed_size", 24),
            (patched(28, &[0; 4]), "unit size", 28),
            (patched(28, &max), "unit size", 28),
            (patched(32, &[0]), "unit kind", 32),
            (patched(32, &[4]), "unit kind", 32),
            (patched(33, &[4]), "unit compressor", 33),
            (patched(32, &[2, 0, 8]), "unit bits", 34),
            (patched(32, &[3, 0, 0, 0, 0, 0, 0, 0, 47]), "unit state", 40),
            (patched(36, &max), "unit state", 36),
            (patched(40, &max), "unit state", 36),
            (patched(44, &[0]), "unit members", 44),
            (patched(44, &[3]), "unit members", 44),
            (patched(44, &max), "unit members", 44),
            (patched(44, &[1]), "members", 4),
            (patched(48, &[3]), "unit members", 16),
            (patched(48, &[2]), "unit members", 16),
            (patched(48, &[1]), "unit members", 16),
            (patched(60, &[101]), "unit members", 16),
            (patched(60, &max), "unit members", 16),
        ];
        for (units, field, offset) in cases {
            match decode(&units) {
                Err(Error::Format { field: f, offset: o, .. }) => assert_eq!((f, o), (field, offset)),
                Err(other) => panic!("{field}: {other}"),
                Ok(_) => panic!("{field} at {offset} was accepted"),
            }
        }
    }
}
