//! The codec's part of the bridge, chunks and small metadata. Names are those of `interface Addon` in
//! `src/native/addon.ts`.

use crate::args;
use crate::error::{BridgeError, Outcome, Result, guarded};
use crate::promise::{promise, promised};
use lacuna_codec::{Compressor, Digester, MAX_UNIT_SIZE, UnitDecoder, ZranState};
use napi::bindgen_prelude::{Buffer, BufferSlice, Env, PromiseRaw, ToNapiValue, Uint32Array};
use napi_derive::napi;

#[napi]
pub fn hash_chunks<'env>(
    env: &'env Env,
    data: Buffer,
    ranges: Uint32Array,
    digester: u32,
) -> Result<PromiseRaw<'env, Buffer>> {
    promised(env, || {
        let ranges = args::chunk_ranges(&ranges, data.len())?;
        let digester = digester_of(digester)?;
        on_all_cores(env, move || Ok(lacuna_codec::hash_chunks(&data, &ranges, digester).into()))
    })
}

/// See `CompressResult` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct CompressResult {
    pub length: f64,
    pub records: Uint32Array,
}

#[napi]
pub fn compress_chunks<'env>(
    env: &'env Env,
    data: Buffer,
    ranges: Uint32Array,
    mut output: Buffer,
    compressor: u32,
    level: f64,
) -> Result<PromiseRaw<'env, CompressResult>> {
    promised(env, || {
        let ranges = args::chunk_ranges(&ranges, data.len())?;
        let needed: usize = ranges.iter().map(|range| range.len()).sum();
        if output.len() < needed {
            return Err(BridgeError::usage(format!("output: {} bytes for chunks of {needed}", output.len())));
        }
        let compressor = compressor_of(compressor)?;
        let level = level_of(level)?;
        on_all_cores(env, move || {
            let stored = lacuna_codec::compress_chunks(&data, &ranges, &mut output, compressor, level)?;
            let length: usize = stored.iter().map(|chunk| chunk.size).sum();
            let records: Vec<u32> = stored
                .iter()
                .flat_map(|chunk| [chunk.size as u32, u32::from(chunk.compressed), chunk.crc32c])
                .collect();
            Ok(CompressResult { length: length as f64, records: records.into() })
        })
    })
}

#[napi]
pub fn decode_chunk<'env>(
    env: &'env Env,
    data: Buffer,
    compressor: u32,
    compressed: bool,
    usize: f64,
    digester: u32,
    digest: BufferSlice<'_>,
) -> Result<PromiseRaw<'env, Buffer>> {
    promised(env, || {
        let compressor = if compressed { compressor_of(compressor)? } else { Compressor::None };
        let usize = args::integer("usize", usize, lacuna_codec::MAX_CHUNK_SIZE)?;
        let digester = digester_of(digester)?;
        let digest = args::exactly("digest", &digest)?;
        on_all_cores(env, move || {
            let mut out = Vec::new();
            lacuna_codec::decode_chunk(&data, compressor as u8, usize, digester as u8, &digest, &mut out)?;
            Ok(out.into())
        })
    })
}

#[napi]
pub fn decode_batch<'env>(
    env: &'env Env,
    data: Buffer,
    compressor: u32,
    size: f64,
) -> Result<PromiseRaw<'env, Buffer>> {
    promised(env, || {
        let compressor = compressor_of(compressor)?;
        let size = args::integer("size", size, MAX_UNIT_SIZE)?;
        on_all_cores(env, move || decode_unit(&data, UnitDecoder::Batch(compressor), size))
    })
}

#[napi]
pub fn decode_zran<'env>(
    env: &'env Env,
    data: Buffer,
    window: Buffer,
    bits: u32,
    byte: u32,
    size: f64,
) -> Result<PromiseRaw<'env, Buffer>> {
    promised(env, || {
        let byte_of = |name: &str, value: u32| Ok::<u8, BridgeError>(args::integer(name, value.into(), 255)? as u8);
        let (bits, byte) = (byte_of("bits", bits)?, byte_of("byte", byte)?);
        let size = args::integer("size", size, MAX_UNIT_SIZE)?;
        on_all_cores(env, move || {
            decode_unit(&data, UnitDecoder::Zran(ZranState { window: &window, bits, byte }), size)
        })
    })
}

#[napi]
pub fn decode_encrypted<'env>(
    env: &'env Env,
    data: Buffer,
    key: BufferSlice<'_>,
    iv: BufferSlice<'_>,
    compressor: u32,
    size: f64,
) -> Result<PromiseRaw<'env, Buffer>> {
    promised(env, || {
        let (key, iv) = (args::exactly("key", &key)?, args::exactly("iv", &iv)?);
        let compressor = compressor_of(compressor)?;
        let size = args::integer("size", size, MAX_UNIT_SIZE)?;
        on_all_cores(env, move || decode_unit(&data, UnitDecoder::Encrypted { key: &key, iv: &iv, compressor }, size))
    })
}

fn decode_unit(data: &[u8], decoder: UnitDecoder<'_>, size: usize) -> Outcome<Buffer> {
    let mut out = Vec::new();
    lacuna_codec::decode_unit(data, decoder, size, &mut out)?;
    Ok(out.into())
}

#[napi]
pub fn hash(data: BufferSlice<'_>, digester: u32) -> Result<Buffer> {
    guarded(|| Ok(digester_of(digester)?.digest(&data).to_vec().into()))
}

#[napi]
pub fn zstd_compress(data: BufferSlice<'_>, level: f64) -> Result<Buffer> {
    guarded(|| Ok(lacuna_codec::zstd_compress(&data, level_of(level)?)?.into()))
}

#[napi]
pub fn zstd_decompress(data: BufferSlice<'_>, limit: f64) -> Result<Buffer> {
    guarded(|| {
        let limit = args::integer("limit", limit, u32::MAX as usize)?;
        Ok(lacuna_codec::zstd_decompress(&data, limit)?.into())
    })
}

#[napi(js_name = "crc32c")]
pub fn crc32c(data: BufferSlice<'_>) -> Result<u32> {
    guarded(|| Ok(lacuna_codec::crc32c(&data)))
}

/// Runs `work` inside rayon's global pool, so that nobody but its own threads waits for them.
fn on_all_cores<'env, T, W>(env: &'env Env, work: W) -> Outcome<PromiseRaw<'env, T>>
where
    T: ToNapiValue + Send + 'static,
    W: FnOnce() -> Outcome<T> + Send + 'static,
{
    let (job, promise) = promise(env, work)?;
    rayon::spawn(job);
    Ok(promise)
}

fn compressor_of(number: u32) -> Outcome<Compressor> {
    let known = u8::try_from(number).ok().and_then(|number| Compressor::try_from(number).ok());
    known.ok_or_else(|| BridgeError::usage(format!("compressor: {number} is none of 0, 1, 2, 3")))
}

fn digester_of(number: u32) -> Outcome<Digester> {
    let known = u8::try_from(number).ok().and_then(|number| Digester::try_from(number).ok());
    known.ok_or_else(|| BridgeError::usage(format!("digester: {number} is none of 0, 1")))
}

fn level_of(level: f64) -> Outcome<i32> {
    let known = lacuna_codec::zstd_levels();
    if level.fract() == 0.0 && level >= f64::from(*known.start()) && level <= f64::from(*known.end()) {
        return Ok(level as i32);
    }
    Err(BridgeError::usage(format!("level: {level} is not an integer from {} to {}", known.start(), known.end())))
}
