//! Arguments from JavaScript, checked: whatever a number promises about a buffer is compared with the buffer.

use crate::error::{BridgeError, Outcome};
use lacuna_codec::MAX_CHUNK_SIZE;
use std::ops::Range;

/// A number that must be an integer of 0 to `max` (inclusive). JavaScript's numbers are doubles.
pub fn integer(name: &str, value: f64, max: usize) -> Outcome<usize> {
    if value.fract() == 0.0 && value >= 0.0 && value <= max as f64 {
        return Ok(value as usize);
    }
    Err(BridgeError::usage(format!("{name}: {value} is not an integer from 0 to {max}")))
}

/// Pairs of offset and length as ranges, all of them within `length` bytes and none larger than a chunk may be.
pub fn chunk_ranges(pairs: &[u32], length: usize) -> Outcome<Vec<Range<usize>>> {
    let (pairs, rest) = pairs.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(BridgeError::usage("ranges: an odd number of numbers, not pairs of offset and length"));
    }
    pairs
        .iter()
        .enumerate()
        .map(|(index, &[offset, size])| {
            let (offset, size) = (offset as usize, size as usize);
            if size > MAX_CHUNK_SIZE {
                return Err(BridgeError::usage(format!("ranges[{index}]: {size} bytes, over {MAX_CHUNK_SIZE}")));
            }
            if offset > length || size > length - offset {
                return Err(BridgeError::usage(format!(
                    "ranges[{index}]: {size} bytes at {offset} leave a buffer of {length}"
                )));
            }
            Ok(offset..offset + size)
        })
        .collect()
}

/// A buffer of a known length: a digest, a key.
pub fn exactly<const N: usize>(name: &str, bytes: &[u8]) -> Outcome<[u8; N]> {
    bytes.try_into().map_err(|_| BridgeError::usage(format!("{name}: {} bytes, not {N}", bytes.len())))
}
