//! What touches every byte of an image: inflating, zstd and lz4, hashing, and the streams built of them.
//!
//! Plain Rust without a JavaScript engine, and without policy: levels, sizes and formats come from the caller.
//! Everything that is decoded is untrusted: output is bounded before it is allocated, and damage is a
//! [`CodecError`] that names the field, never a panic.

mod chunk;
mod error;
mod zstandard;

pub use chunk::{Compressor, Digester, MAX_CHUNK_SIZE, decode_chunk};
pub use error::{CodecError, Result};
pub use zstandard::{zstd_compress, zstd_levels};
