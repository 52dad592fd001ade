//! Many chunks of one buffer at once, on all cores (rayon's global pool). Results do not depend on how many there are.

use crate::chunk::{Compressor, Digester};
use crate::error::{CodecError, Result};
use crate::zstandard;
use rayon::prelude::*;
use std::ops::Range;

/// How a chunk was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub size: usize,
    /// False when it was kept raw because compressing does not make it smaller.
    pub compressed: bool,
    /// Of the plain bytes.
    pub crc32c: u32,
}

/// 32 bytes per chunk. Panics when a range is not within `data`.
pub fn hash_chunks(data: &[u8], ranges: &[Range<usize>], digester: Digester) -> Vec<u8> {
    let digests: Vec<[u8; 32]> = ranges.par_iter().map(|range| digester.digest(&data[range.clone()])).collect();
    digests.into_flattened()
}

/// Compresses each chunk alone; their stored bytes lie back to back in `output`, in order.
/// Panics when a range is not within `data` or `output` is shorter than the chunks together.
pub fn compress_chunks(
    data: &[u8],
    ranges: &[Range<usize>],
    output: &mut [u8],
    compressor: Compressor,
    level: i32,
) -> Result<Vec<Stored>> {
    // Each chunk is first compressed into a slot as long as itself: there it fits, or it is kept raw.
    let mut rest = &mut *output;
    let mut work = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (slot, behind) = rest.split_at_mut(range.len());
        rest = behind;
        work.push((&data[range.clone()], slot));
    }
    let stored = work
        .into_par_iter()
        .map(|(chunk, slot)| compress(chunk, slot, compressor, level))
        .collect::<Result<Vec<Stored>>>()?;
    close_gaps(output, ranges, &stored);
    Ok(stored)
}

fn compress(chunk: &[u8], slot: &mut [u8], compressor: Compressor, level: i32) -> Result<Stored> {
    let compressed = match compressor {
        Compressor::None => None,
        // One byte less than the chunk: only what is strictly smaller fits.
        Compressor::Zstd if !chunk.is_empty() => zstandard::compress_into(chunk, &mut slot[..chunk.len() - 1], level)?,
        Compressor::Zstd => None,
        // The block may need room beyond the chunk while it is made.
        Compressor::Lz4Block => {
            let block = lz4_flex::block::compress(chunk);
            let smaller = block.len() < chunk.len();
            smaller.then(|| {
                slot[..block.len()].copy_from_slice(&block);
                block.len()
            })
        }
        Compressor::Gzip => {
            return Err(CodecError::Unsupported {
                field: "compressor",
                problem: "chunks are written with zstd or lz4_block, or raw".to_owned(),
            });
        }
    };
    if compressed.is_none() {
        slot.copy_from_slice(chunk);
    }
    Ok(Stored {
        size: compressed.unwrap_or(chunk.len()),
        compressed: compressed.is_some(),
        crc32c: crc32c::crc32c(chunk),
    })
}

fn close_gaps(output: &mut [u8], ranges: &[Range<usize>], stored: &[Stored]) {
    let (mut from, mut to) = (0, 0);
    for (range, chunk) in ranges.iter().zip(stored) {
        output.copy_within(from..from + chunk.size, to);
        from += range.len();
        to += chunk.size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_chunks_lie_back_to_back() {
        let data: Vec<u8> = (0..2000u32).map(|at| if at < 1000 { 7 } else { ((at * at) >> 3) as u8 }).collect();
        let ranges = [0..1000, 1000..1010, 0..0, 500..1000];
        for kind in [Compressor::Lz4Block, Compressor::Zstd] {
            let mut output = vec![0; 1510];
            let stored = compress_chunks(&data, &ranges, &mut output, kind, 3).unwrap();
            assert_eq!(stored.iter().map(|chunk| chunk.compressed).collect::<Vec<_>>(), [true, false, false, true]);
            let mut at = 0;
            for (range, chunk) in ranges.iter().zip(&stored) {
                let plain = &data[range.clone()];
                let compressor = if chunk.compressed { kind as u8 } else { 0 };
                let digest = Digester::Blake3.digest(plain);
                let (bytes, mut out) = (&output[at..at + chunk.size], Vec::new());
                crate::decode_chunk(bytes, compressor, plain.len(), 0, &digest, &mut out).unwrap();
                at += chunk.size;
            }
        }
    }

    #[test]
    fn gzip_is_read_only() {
        let result = compress_chunks(b"abc", &[0..1, 1..3], &mut [0; 3], Compressor::Gzip, 0);
        assert!(matches!(result, Err(CodecError::Unsupported { .. })));
    }
}
