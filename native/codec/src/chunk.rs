//! Chunks: small units that are compressed, hashed and checked alone.

use crate::error::{CodecError, Result, hex};
use crate::gzip::GzipMember;
use crate::{members, zstandard};
use sha2::{Digest, Sha256};

/// The largest chunk of any format we read, RAFS v6: 16 MiB.
pub const MAX_CHUNK_SIZE: usize = 16 << 20;

/// How chunk data is stored; numbers as in the RAFS blob table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    None,
    /// A bare lz4 block, its size known from outside.
    Lz4Block,
    Gzip,
    Zstd,
}

impl TryFrom<u8> for Compressor {
    type Error = CodecError;

    fn try_from(number: u8) -> Result<Self> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4Block),
            2 => Ok(Self::Gzip),
            3 => Ok(Self::Zstd),
            _ => Err(CodecError::format("compressor", format!("{number} is none of 0, 1, 2, 3"))),
        }
    }
}

/// What chunks are identified by; numbers as in the RAFS blob table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digester {
    Blake3,
    Sha256,
}

impl Digester {
    pub fn digest(self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Self::Blake3 => *blake3::hash(bytes).as_bytes(),
            Self::Sha256 => Sha256::digest(bytes).into(),
        }
    }
}

impl TryFrom<u8> for Digester {
    type Error = CodecError;

    fn try_from(number: u8) -> Result<Self> {
        match number {
            0 => Ok(Self::Blake3),
            1 => Ok(Self::Sha256),
            _ => Err(CodecError::format("digester", format!("{number} is none of 0, 1"))),
        }
    }
}

/// Decodes one chunk as it is stored in its blob and checks it: `out` then holds exactly `usize` bytes that hash to
/// `digest`. After an error `out` is empty: no byte that was not checked leaves this function.
///
/// `compressor` 0 also stands for a chunk that was kept raw alone. `out` is reused, its capacity kept.
pub fn decode_chunk(
    stored: &[u8],
    compressor: u8,
    usize: usize,
    digester: u8,
    digest: &[u8; 32],
    out: &mut Vec<u8>,
) -> Result<()> {
    let result = Compressor::try_from(compressor)
        .and_then(|compressor| decode(stored, compressor, usize, out))
        .and_then(|()| verify(out, digester.try_into()?, digest));
    if result.is_err() {
        out.clear();
    }
    result
}

fn decode(stored: &[u8], compressor: Compressor, usize: usize, out: &mut Vec<u8>) -> Result<()> {
    if usize > MAX_CHUNK_SIZE {
        return Err(CodecError::format(
            "uncompressed_size",
            format!("{usize} is over the {MAX_CHUNK_SIZE} of a chunk"),
        ));
    }
    decompress(stored, compressor, usize, out)
}

/// Fills `out` with exactly `usize` bytes, whose bound is the caller's to check.
pub(crate) fn decompress(stored: &[u8], compressor: Compressor, usize: usize, out: &mut Vec<u8>) -> Result<()> {
    if compressor == Compressor::None {
        expect_size(stored.len(), usize)?;
        out.clear();
        out.extend_from_slice(stored);
        return Ok(());
    }
    out.resize(usize, 0);
    let length = match compressor {
        Compressor::None => unreachable!("answered above"),
        Compressor::Lz4Block => lz4_flex::block::decompress_into(stored, out)
            .map_err(|error| CodecError::format("lz4 block", error.to_string()))?,
        Compressor::Gzip => members::decode_into(GzipMember::new(), stored, out)?,
        Compressor::Zstd => zstandard::decompress_into(stored, out)?,
    };
    expect_size(length, usize)
}

fn expect_size(actual: usize, expected: usize) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(CodecError::format("uncompressed_size", format!("{expected} promised, the chunk holds {actual}")))
}

/// DIGEST_MISMATCH unless `bytes` hash to `expected`.
pub fn verify(bytes: &[u8], digester: Digester, expected: &[u8; 32]) -> Result<()> {
    let actual = digester.digest(bytes);
    if actual == *expected {
        return Ok(());
    }
    Err(CodecError::DigestMismatch { field: "chunk digest", expected: hex(expected), actual: hex(&actual) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc";

    fn blake3(bytes: &[u8]) -> [u8; 32] {
        Digester::Blake3.digest(bytes)
    }

    #[test]
    fn decodes_into_a_reused_vector() {
        let mut out = vec![7; 1000];
        let frame = crate::zstd_compress(PLAIN, 3).unwrap();
        let block = lz4_flex::block::compress(PLAIN);
        for (stored, compressor) in [(PLAIN, 0), (&block[..], 1), (&frame[..], 3)] {
            decode_chunk(stored, compressor, PLAIN.len(), 0, &blake3(PLAIN), &mut out).unwrap();
            assert_eq!(out, PLAIN);
        }
        assert!(out.capacity() >= 1000);
    }

    #[test]
    fn leaves_nothing_behind_after_an_error() {
        let frame = crate::zstd_compress(PLAIN, 3).unwrap();
        let digest = blake3(PLAIN);
        let frame = frame.as_slice();
        let cases = [
            (frame, 3, PLAIN.len(), 0, blake3(b"other")),
            (frame, 3, PLAIN.len() - 1, 0, digest),
            (frame, 3, PLAIN.len() + 1, 0, digest),
            (frame, 3, PLAIN.len(), 2, digest),
            (frame, 4, PLAIN.len(), 0, digest),
            (frame, 3, MAX_CHUNK_SIZE + 1, 0, digest),
            (PLAIN, 0, PLAIN.len() + 1, 0, digest),
        ];
        for (stored, compressor, usize, digester, digest) in cases {
            let mut out = PLAIN.to_vec();
            let error = decode_chunk(stored, compressor, usize, digester, &digest, &mut out).unwrap_err();
            assert!(out.is_empty(), "{error}");
        }
    }

    #[test]
    fn names_both_digests() {
        let error = decode_chunk(PLAIN, 0, PLAIN.len(), 1, &[0xab; 32], &mut Vec::new()).unwrap_err();
        let CodecError::DigestMismatch { expected, actual, .. } = error else { panic!("{error}") };
        assert_eq!(expected, "ab".repeat(32));
        assert_eq!(actual, hex(&Digester::Sha256.digest(PLAIN)));
    }
}
