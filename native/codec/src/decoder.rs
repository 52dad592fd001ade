//! The decoders of a layer, one for each compression of the OCI media types.

use crate::error::Result;
use crate::gzip::GzipMember;
use crate::members::{Members, Step};
use crate::zstandard::ZstdFrame;

/// How a layer is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

pub(crate) enum Decoder {
    Plain,
    Gzip(Box<Members<GzipMember>>),
    Zstd(Box<Members<ZstdFrame>>),
}

impl Decoder {
    pub fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(Box::new(Members::new(GzipMember::new()))),
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
            Self::Zstd(frames) => frames.step(input, output),
        }
    }

    /// To be asked when there is no more input: FORMAT when the stream is truncated.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(members) => members.finish(),
            Self::Zstd(frames) => frames.finish(),
        }
    }
}
