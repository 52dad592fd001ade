//! A layer on its way through: compressed bytes in, tar bytes out, both hashed.
//!
//! One thread writes and one reads, at the same time; what lies between them is bounded. Inflating is the longest
//! chain of a conversion, so the reader does nothing else: the writer hashes the input, a helper the output.

use crate::checkpoints::{Checkpoints, Found};
use crate::decoder::{Compression, Decoder};
use crate::error::{CodecError, Result};
use crate::hashed::{Digested, Hashed};
use crate::members::Step;
use crate::queue::ByteQueue;
use std::sync::{Mutex, mpsc};
use std::thread;

/// Compressed bytes that may wait for the reader.
const QUEUE_LIMIT: usize = 8 << 20;

/// Unit in which input is hashed and queued and output is handed to the hashing helper: it stays in the second-level
/// cache, and one large write keeps to the limit above.
const PIECE: usize = 256 << 10;

/// Reads of at least so many bytes hash their output on a second thread while they go on inflating.
const PARALLEL_HASH: usize = 1 << 20;

/// What went in and what came out.
pub struct LayerDigests {
    pub compressed: Digested,
    pub uncompressed: Digested,
}

pub struct LayerStream {
    compression: Compression,
    queue: ByteQueue,
    found: Found,
    input: Mutex<Hashed>,
    output: Mutex<Output>,
}

struct Output {
    decoder: Decoder,
    /// The piece being decoded, and how far.
    piece: Vec<u8>,
    at: usize,
    hashed: Hashed,
    drained: bool,
}

impl LayerStream {
    pub fn new(compression: Compression) -> Self {
        let found = Found::default();
        let decoder = Decoder::new(compression, &found);
        let output = Output { decoder, piece: Vec::new(), at: 0, hashed: Hashed::default(), drained: false };
        let queue = ByteQueue::new(QUEUE_LIMIT);
        Self { compression, queue, found, input: Mutex::default(), output: Mutex::new(output) }
    }

    /// Hashes and queues compressed bytes; waits while the queue is full.
    pub fn write(&self, data: &[u8]) -> Result<()> {
        let mut input = self.input.lock().expect("no writer panicked");
        self.queue.check()?;
        for piece in data.chunks(PIECE) {
            input.update(piece);
            // Copied, so that the caller has its buffer back as soon as there is room.
            self.queue.push(piece.to_vec())?;
        }
        Ok(())
    }

    /// No more input.
    pub fn end(&self) {
        self.queue.end();
    }

    /// Fills `target` with decoded bytes; fewer only at the end of the stream, none after it. Waits for input.
    /// An error is the last thing that happens: readers and writers get it from then on.
    pub fn read(&self, target: &mut [u8]) -> Result<usize> {
        let mut output = self.output.lock().expect("no reader panicked");
        self.queue.check()?;
        output.fill(target, &self.queue, self.compression).inspect_err(|error| self.queue.fail(error.clone()))
    }

    /// What was found since the last call in all that was read.
    pub fn checkpoints(&self) -> Result<Checkpoints> {
        if self.compression == Compression::IndexedGzip {
            return Ok(self.found.take());
        }
        Err(CodecError::State { problem: "only an indexed layer stream has checkpoints" })
    }

    /// After the end was read.
    pub fn digests(&self) -> Result<LayerDigests> {
        self.queue.check()?;
        let early = CodecError::State { problem: "the digests of a layer are known after its end was read" };
        // A lock that is taken means that somebody is still writing or reading.
        let (Ok(input), Ok(output)) = (self.input.try_lock(), self.output.try_lock()) else { return Err(early) };
        if !output.drained {
            return Err(early);
        }
        let compressed = input.digested();
        let uncompressed = match self.compression {
            Compression::None => compressed.clone(),
            Compression::Gzip | Compression::IndexedGzip | Compression::Zstd => output.hashed.digested(),
        };
        Ok(LayerDigests { compressed, uncompressed })
    }

    /// Wakes whoever waits with an error and drops what is queued.
    pub fn close(&self) {
        self.queue.fail(CodecError::Closed { subject: "the layer stream" });
    }
}

impl Output {
    fn fill(&mut self, target: &mut [u8], queue: &ByteQueue, compression: Compression) -> Result<usize> {
        if compression == Compression::None {
            // Its output is its input, which the writer hashes.
            self.decode(target, queue)
        } else if target.len() < PARALLEL_HASH {
            let filled = self.decode(target, queue)?;
            self.hashed.update(&target[..filled]);
            Ok(filled)
        } else {
            self.fill_while_hashing(target, queue)
        }
    }

    /// The helper hashes each piece while the next one is inflated; it is done before this returns, because then the
    /// target belongs to the caller again.
    fn fill_while_hashing(&mut self, target: &mut [u8], queue: &ByteQueue) -> Result<usize> {
        let mut hashed = std::mem::take(&mut self.hashed);
        let filled = thread::scope(|scope| {
            let (pieces, arriving) = mpsc::channel::<&[u8]>();
            let hashed = &mut hashed;
            thread::Builder::new()
                .name("lacuna-hash".to_owned())
                .spawn_scoped(scope, move || arriving.iter().for_each(|piece| hashed.update(piece)))
                .map_err(|error| CodecError::io("start a hashing thread", &error))?;
            let mut filled = 0;
            for piece in target.chunks_mut(PIECE) {
                let length = self.decode(piece, queue)?;
                filled += length;
                let full = length == piece.len();
                // Fails only when the helper panicked, which the scope reports.
                let _ = pieces.send(&piece[..length]);
                if !full {
                    break;
                }
            }
            Ok(filled)
        })?;
        self.hashed = hashed;
        Ok(filled)
    }

    fn decode(&mut self, target: &mut [u8], queue: &ByteQueue) -> Result<usize> {
        let mut filled = 0;
        while filled < target.len() && !self.drained {
            if self.at == self.piece.len() {
                // No piece is empty, so an empty one marks the end of the input.
                self.piece = queue.pop()?.unwrap_or_default();
                self.at = 0;
            }
            let step = self.decoder.step(&self.piece[self.at..], &mut target[filled..])?;
            self.at += step.consumed;
            filled += step.produced;
            if step == Step::default() {
                if !self.piece.is_empty() {
                    return Err(CodecError::format("layer", "the decoder makes no progress"));
                }
                self.decoder.finish()?;
                self.drained = true;
            }
        }
        Ok(filled)
    }
}
