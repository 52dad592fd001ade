//! The streams of the bridge: layers and running digests. Names and order are those of `interface Addon` in
//! `src/native/addon.ts`.

use crate::args;
use crate::error::{BridgeError, Code, Outcome, Result, guarded};
use crate::lane::Lane;
use crate::promise::promised;
use crate::teardown::{Waits, wake_at_end};
use lacuna_codec::{Compression, Hashed};
use napi::bindgen_prelude::{Buffer, Env, Float64Array, PromiseRaw};
use napi_derive::napi;
use std::sync::{Arc, Mutex, Weak};

/// See `LayerDigests` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct LayerDigests {
    pub compressed_digest: String,
    pub compressed_size: f64,
    pub uncompressed_digest: String,
    pub uncompressed_size: f64,
}

/// See `Checkpoints` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct Checkpoints {
    pub places: Float64Array,
    pub windows: Buffer,
    pub marks: Float64Array,
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

impl Waits for lacuna_codec::LayerStream {
    fn wake(&self) {
        self.close();
    }
}

#[napi]
pub fn layer_stream(env: &Env, compression: String) -> Result<LayerStream> {
    guarded(|| {
        let compression = match compression.as_str() {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "indexed-gzip" => Compression::IndexedGzip,
            "zstd" => Compression::Zstd,
            _ => {
                return Err(BridgeError::usage(format!(
                    "compression: {compression:?} is none of gzip, indexed-gzip, zstd, none"
                )));
            }
        };
        let stream = Arc::new(lacuna_codec::LayerStream::new(compression));
        let weak: Weak<lacuna_codec::LayerStream> = Arc::downgrade(&stream);
        wake_at_end(env, weak)?;
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
    pub fn checkpoints(&self) -> Result<Checkpoints> {
        guarded(|| {
            let found = self.with(|open| Ok(open.stream.checkpoints()?))?;
            let places = found.places.iter().flat_map(|place| {
                let (at, out, window) = (place.in_offset as f64, place.out_offset as f64, place.window.len() as f64);
                [at, out, place.bits.into(), place.byte.into(), window]
            });
            let marks = found.marks.iter().flat_map(|mark| [mark.in_end as f64, mark.out_end as f64]);
            Ok(Checkpoints {
                places: places.collect::<Vec<f64>>().into(),
                marks: marks.collect::<Vec<f64>>().into(),
                windows: found.places.iter().flat_map(|place| &place.window).copied().collect::<Vec<u8>>().into(),
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

/// See `Sha256Stream` in addon.ts.
#[napi]
pub struct Sha256Stream {
    hashed: Arc<Mutex<Hashed>>,
    lane: Lane,
}

#[napi]
pub fn sha256_stream() -> Result<Sha256Stream> {
    guarded(|| Ok(Sha256Stream { hashed: Arc::default(), lane: Lane::new("lacuna-sha256")? }))
}

#[napi]
impl Sha256Stream {
    #[napi]
    pub fn update<'env>(&self, env: &'env Env, data: Buffer, length: f64) -> Result<PromiseRaw<'env, ()>> {
        promised(env, || {
            let length = args::integer("length", length, data.len())?;
            let hashed = Arc::clone(&self.hashed);
            self.lane.run(env, move || {
                lock(&hashed).update(&data[..length]);
                Ok(())
            })
        })
    }

    #[napi]
    pub fn digest<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, String>> {
        promised(env, || {
            let hashed = Arc::clone(&self.hashed);
            self.lane.run(env, move || Ok(lock(&hashed).digested().sha256))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no user of a native handle panicked")
}
