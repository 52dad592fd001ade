//! The decoders of a layer, one for each compression of the OCI media types.

use crate::checkpoints::{Found, IndexedGzip};
use crate::error::Result;
use crate::gzip::GzipMember;
use crate::members::{Members, Step};
use crate::zstandard::ZstdFrame;

/// How a layer is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    /// As gzip, leaving checkpoints.
    IndexedGzip,
    Zstd,
}

pub(crate) enum Decoder {
    Plain,
    Gzip(Box<Members<GzipMember>>),
    IndexedGzip(Box<Members<IndexedGzip>>),
    Zstd(Box<Members<ZstdFrame>>),
}

impl Decoder {
    /// `found` gets the checkpoints, where there are any.
    pub fn new(compression: Compression, found: &Found) -> Self {
        match compression {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(Box::new(Members::new(GzipMember::new()))),
            Compression::IndexedGzip => Self::IndexedGzip(Box::new(Members::new(IndexedGzip::new(found.clone())))),
            Compression::Zstd => Self::Zstd(Box::new(Members::new(ZstdFrame::new()))),
        }
    }

    /// Decodes as much as fits; an empty step on empty input means that all is out.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step> {
        match self {
            Self::Plain => {
                let length = input.len().min(output.len());
                output[..length].copy_from_slice(&input[..length]);
                Ok(Step { consumed: length, produced: length })
            }
            Self::Gzip(members) => members.step(input, output),
            Self::IndexedGzip(members) => members.step(input, output),
            Self::Zstd(frames) => frames.step(input, output),
        }
    }

    /// To be asked when there is no more input: FORMAT when the stream is truncated.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(members) => members.finish(),
            Self::IndexedGzip(members) => members.finish(),
            Self::Zstd(frames) => frames.finish(),
        }
    }
}
