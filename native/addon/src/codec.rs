//! The codec's part of the bridge. Names and order are those of `interface Addon` in `src/native/addon.ts`.

use crate::args;
use crate::error::{BridgeError, Code, Outcome, Result, guarded, promise, promised};
use crate::lane::Lane;
use lacuna_codec::{Compression, Compressor, Digested, Digester};
use napi::bindgen_prelude::{Buffer, BufferSlice, Env, PromiseRaw, ToNapiValue, Uint32Array};
use napi_derive::napi;
use std::sync::{Arc, Mutex};

/// See `LayerDigests` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct LayerDigests {
    pub compressed_digest: String,
    pub compressed_size: f64,
    pub uncompressed_digest: String,
    pub uncompressed_size: f64,
}

/// See `LayerStream` in addon.ts.
#[napi]
pub struct LayerStream {
    open: Mutex<Option<OpenLayer>>,
}

/// Writing may wait for reading and the other way round, so each has a thread.
struct OpenLayer {
    stream: Arc<lacuna_codec::LayerStream>,
    writer: Lane,
    reader: Lane,
}

#[napi]
pub fn layer_stream(compression: String) -> Result<LayerStream> {
    guarded(|| {
        let compression = match compression.as_str() {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => return Err(BridgeError::usage(format!("compression: {compression:?} is none of gzip, zstd, none"))),
        };
        let stream = Arc::new(lacuna_codec::LayerStream::new(compression));
        let open = OpenLayer { stream, writer: Lane::new("lacuna-write")?, reader: Lane::new("lacuna-read")? };
        Ok(LayerStream { open: Mutex::new(Some(open)) })
    })
}

#[napi]
impl LayerStream {
    #[napi]
    pub fn write<'env>(&self, env: &'env Env, data: Buffer) -> Result<PromiseRaw<'env, ()>> {
        promised(env, || {
            self.with(|open| {
                let stream = Arc::clone(&open.stream);
                open.writer.run(env, move || Ok(stream.write(&data)?))
            })
        })
    }

    /// Takes its turn behind the writes that were asked for.
    #[napi]
    pub fn end(&self) -> Result<()> {
        guarded(|| {
            self.with(|open| {
                let stream = Arc::clone(&open.stream);
                open.writer.post(Box::new(move || stream.end()))
            })
        })
    }

    #[napi]
    pub fn read<'env>(&self, env: &'env Env, mut target: Buffer, offset: f64) -> Result<PromiseRaw<'env, u32>> {
        promised(env, || {
            let offset = args::integer("offset", offset, target.len())?;
            if offset == target.len() {
                return Err(BridgeError::usage("target: no room, and reading 0 bytes means the end"));
            }
            // The answer is a 32-bit number, and no reader has use for more.
            let end = target.len().min(offset + u32::MAX as usize);
            self.with(|open| {
                let stream = Arc::clone(&open.stream);
                open.reader.run(env, move || Ok(stream.read(&mut target[offset..end])? as u32))
            })
        })
    }

    #[napi]
    pub fn digests(&self) -> Result<LayerDigests> {
        guarded(|| {
            let digests = self.with(|open| Ok(open.stream.digests()?))?;
            Ok(LayerDigests {
                compressed_digest: digests.compressed.sha256,
                compressed_size: digests.compressed.size as f64,
                uncompressed_digest: digests.uncompressed.sha256,
                uncompressed_size: digests.uncompressed.size as f64,
            })
        })
    }

    #[napi]
    pub fn close(&self) -> Result<()> {
        guarded(|| {
            if let Some(open) = lock(&self.open).take() {
                open.stream.close();
            }
            Ok(())
        })
    }

    fn with<T>(&self, body: impl FnOnce(&OpenLayer) -> Outcome<T>) -> Outcome<T> {
        match lock(&self.open).as_ref() {
            Some(open) => body(open),
            None => Err(BridgeError::new(Code::Aborted, "the layer stream was closed")),
        }
    }
}

/// Forgotten without `close`: whoever waits must not wait for ever.
impl Drop for LayerStream {
    fn drop(&mut self) {
        if let Some(open) = lock(&self.open).take() {
            open.stream.close();
        }
    }
}

/// See `FileSink` in addon.ts.
#[napi]
pub struct FileSink {
    open: Mutex<Option<OpenSink>>,
}

struct OpenSink {
    sink: Arc<Mutex<lacuna_codec::FileSink>>,
    lane: Lane,
}

/// See `FileSink.finish` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct FileDigest {
    pub digest: String,
    pub size: f64,
}

#[napi]
pub fn file_sink(path: String) -> Result<FileSink> {
    guarded(|| {
        let sink = Arc::new(Mutex::new(lacuna_codec::FileSink::create(path)?));
        let open = OpenSink { sink, lane: Lane::new("lacuna-sink")? };
        Ok(FileSink { open: Mutex::new(Some(open)) })
    })
}

#[napi]
impl FileSink {
    #[napi]
    pub fn append<'env>(&self, env: &'env Env, data: Buffer, length: f64) -> Result<PromiseRaw<'env, ()>> {
        promised(env, || {
            let length = args::integer("length", length, data.len())?;
            self.run(env, move |sink| Ok(sink.append(&data[..length])?))
        })
    }

    #[napi]
    pub fn digest<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, String>> {
        promised(env, || self.run(env, |sink| Ok(sink.digested()?.sha256)))
    }

    #[napi]
    pub fn finish<'env>(&self, env: &'env Env, sync: bool) -> Result<PromiseRaw<'env, FileDigest>> {
        promised(env, || {
            self.run(env, move |sink| {
                let Digested { sha256, size } = sink.finish(sync)?;
                Ok(FileDigest { digest: sha256, size: size as f64 })
            })
        })
    }

    /// What was asked for before is still done; the file is closed after it.
    #[napi]
    pub fn close(&self) -> Result<()> {
        guarded(|| {
            drop(lock(&self.open).take());
            Ok(())
        })
    }

    fn run<'env, T, W>(&self, env: &'env Env, work: W) -> Outcome<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        W: FnOnce(&mut lacuna_codec::FileSink) -> Outcome<T> + Send + 'static,
    {
        match lock(&self.open).as_ref() {
            Some(open) => {
                let sink = Arc::clone(&open.sink);
                open.lane.run(env, move || work(&mut lock(&sink)))
            }
            None => Err(BridgeError::new(Code::Precondition, "the file is closed")),
        }
    }
}

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
        let digest = args::digest(&digest)?;
        on_all_cores(env, move || {
            let mut out = Vec::new();
            lacuna_codec::decode_chunk(&data, compressor as u8, usize, digester as u8, &digest, &mut out)?;
            Ok(out.into())
        })
    })
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

#[napi]
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no user of a native handle panicked")
}
