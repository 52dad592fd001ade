//! gzip members (RFC 1952) through zlib-rs, which checks the header's CRC, the content's CRC-32 and its length.

use crate::members::{Damage, Step, Unit};
use zlib_rs::{Inflate, InflateFlush, Status};

/// 15 bits of window, plus 16 for "gzip header and trailer" (zlib.h, inflateInit2).
const GZIP_WINDOW_BITS: u8 = 15 + 16;

pub(crate) struct GzipMember(Inflate);

impl GzipMember {
    pub fn new() -> Self {
        Self(Inflate::new(true, GZIP_WINDOW_BITS))
    }
}

impl Unit for GzipMember {
    const STREAM: &'static str = "gzip stream";

    fn begins_with(byte: u8) -> bool {
        byte == 0x1f
    }

    fn restart(&mut self) {
        // zlib-rs's own reset forgets that the stream is gzip.
        *self = Self::new();
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(Step, bool), Damage> {
        let inflate = &mut self.0;
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let result = inflate.decompress(input, output, InflateFlush::NoFlush);
        // Both counts grow by no more than the lengths of the slices.
        let consumed = (inflate.total_in() - before_in) as usize;
        let produced = (inflate.total_out() - before_out) as usize;
        match result {
            Ok(status) => Ok((Step { consumed, produced }, status == Status::StreamEnd)),
            Err(error) => {
                let problem = inflate.error_message().unwrap_or(error.as_str()).to_owned();
                Err(Damage::broken(consumed, problem))
            }
        }
    }
}
