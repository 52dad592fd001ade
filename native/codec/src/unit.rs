//! Units: what is fetched and decoded in one piece and holds one or several chunks.

use crate::chunk::{Compressor, decompress};
use crate::error::{CodecError, Result};
use crate::xts;
use crate::zran::{ZranState, decode_span};

/// The largest unit, plain or stored: a span of a gzip stream with a chunk of the largest size at its end.
pub const MAX_UNIT_SIZE: usize = 32 << 20;

/// How the stored bytes of a unit become plain ones. See `Decoder` in addon.ts. It may hold a key: it is never printed.
#[derive(Clone, Copy)]
pub enum UnitDecoder<'a> {
    /// Small chunks compressed together.
    Batch(Compressor),
    /// A span of a gzip stream.
    Zran(ZranState<'a>),
    /// Compressed, then encrypted with AES-128-XTS.
    Encrypted { key: &'a [u8; xts::KEY_SIZE], iv: &'a [u8; xts::IV_SIZE], compressor: Compressor },
}

/// Decodes one unit: `out` then holds exactly `size` bytes, which nobody has verified. Empty after an error.
pub fn decode_unit(stored: &[u8], decoder: UnitDecoder<'_>, size: usize, out: &mut Vec<u8>) -> Result<()> {
    let result = decode(stored, decoder, size, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn decode(stored: &[u8], decoder: UnitDecoder<'_>, size: usize, out: &mut Vec<u8>) -> Result<()> {
    if size > MAX_UNIT_SIZE {
        return Err(CodecError::format("uncompressed_size", format!("{size} is over the {MAX_UNIT_SIZE} of a unit")));
    }
    match decoder {
        UnitDecoder::Batch(compressor) => decompress(stored, compressor, size, out),
        UnitDecoder::Zran(state) => {
            out.clear();
            out.resize(size, 0);
            decode_span(stored, state, out)
        }
        UnitDecoder::Encrypted { key, iv, compressor } => {
            let plain = xts::decrypt(stored, key, iv)?;
            // Unpadded only where it must be: 18 bytes that were kept raw may happen to end as padding does.
            let whole = compressor == Compressor::None && plain.len() == size;
            decompress(if whole { &plain } else { xts::unpadded(&plain)? }, compressor, size, out)
        }
    }
}
