//! What touches every byte of an image: inflating, zstd and lz4, hashing, and the streams built of them.
//!
//! Plain Rust without a JavaScript engine, and without policy: levels, sizes and formats come from the caller.
//! Everything that is decoded is untrusted: output is bounded before it is allocated, and damage is a
//! [`CodecError`] that names the field, never a panic.

mod batch;
mod checkpoints;
mod chunk;
mod decoder;
mod error;
mod gzip;
mod hashed;
mod inflater;
mod layer;
mod members;
mod queue;
mod unit;
mod xts;
mod zran;
mod zstandard;

pub use batch::{Stored, compress_chunks, hash_chunks};
pub use checkpoints::{Checkpoint, Checkpoints, Mark};
pub use chunk::{Compressor, Digester, MAX_CHUNK_SIZE, decode_chunk, verify};
pub use crc32c::crc32c;
pub use decoder::Compression;
pub use error::{CodecError, Result};
pub use hashed::{Digested, Hashed};
pub use layer::{LayerDigests, LayerStream};
pub use unit::{MAX_UNIT_SIZE, UnitDecoder, decode_unit};
pub use xts::{IV_SIZE as XTS_IV_SIZE, KEY_SIZE as XTS_KEY_SIZE};
pub use zran::{MAX_WINDOW_SIZE, ZranState};
pub use zstandard::{zstd_compress, zstd_decompress, zstd_levels};
