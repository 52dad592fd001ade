//! zstd: single frames with contexts that are made once per thread and reused, and streams of frames.

use crate::error::{CodecError, Result};
use crate::members::{Damage, Members, Step, Unit};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, ErrorCode, InBuffer, OutBuffer};

/// `ZSTD_error_dstSize_tooSmall` of zstd_errors.h; an error code is its negative.
const DST_SIZE_TOO_SMALL: ErrorCode = 0usize.wrapping_sub(70);

/// Windows up to 128 MiB, as the `zstd` program accepts by default and RFC 8878 lets a decoder refuse beyond.
const MAX_WINDOW_LOG: u32 = 27;

/// First guess for content whose size is not believed, in bytes.
const FIRST_OUTPUT: usize = 64 << 10;

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// `ZSTD_error_frameParameter_windowTooLarge` and `ZSTD_error_dictionary_wrong` of zstd_errors.h.
const WINDOW_TOO_LARGE: ErrorCode = 0usize.wrapping_sub(16);
const DICTIONARY_WRONG: ErrorCode = 0usize.wrapping_sub(32);

pub(crate) fn problem(code: ErrorCode) -> String {
    zstd_safe::get_error_name(code).to_owned()
}

/// Sound frames may need more memory than a decoder has to have, or a dictionary that no layer comes with.
fn damage(consumed: usize, code: ErrorCode) -> Damage {
    match code {
        WINDOW_TOO_LARGE => {
            Damage::unsupported(consumed, format!("a window of more than {} MiB", 1 << (MAX_WINDOW_LOG - 20)))
        }
        DICTIONARY_WRONG => Damage::unsupported(consumed, "it was compressed with a dictionary"),
        _ => Damage::broken(consumed, problem(code)),
    }
}

/// The levels this zstd knows.
pub fn zstd_levels() -> RangeInclusive<i32> {
    zstd_safe::min_c_level()..=zstd_safe::max_c_level()
}

/// One frame with the content's size and without a checksum, written to `target`; `None` when it does not fit there.
pub(crate) fn compress_into(source: &[u8], target: &mut [u8], level: i32) -> Result<Option<usize>> {
    COMPRESSOR.with_borrow_mut(|context| {
        let failed = |code| CodecError::format("zstd", problem(code));
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        match context.compress2(target, source) {
            Ok(length) => Ok(Some(length)),
            Err(DST_SIZE_TOO_SMALL) => Ok(None),
            Err(code) => Err(failed(code)),
        }
    })
}

/// One frame, however long it gets.
pub fn zstd_compress(source: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut target = vec![0; zstd_safe::compress_bound(source.len())];
    let length = compress_into(source, &mut target, level)?
        .ok_or_else(|| CodecError::format("zstd", "a frame is longer than the bound zstd itself gives"))?;
    target.truncate(length);
    Ok(target)
}

/// Decodes whole frames into `target`; FORMAT when they hold more than that. Gives how much they held.
pub(crate) fn decompress_into(source: &[u8], target: &mut [u8]) -> Result<usize> {
    DECOMPRESSOR.with_borrow_mut(|context| {
        context.decompress(target, source).map_err(|code| CodecError::format("zstd", problem(code)))
    })
}

/// One frame after another, of whatever size: the streaming decoder. Skippable frames count as frames.
pub(crate) struct ZstdFrame(DCtx<'static>);

impl ZstdFrame {
    pub fn new() -> Self {
        let mut context = DCtx::create();
        context
            .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
            .expect("zstd knows windows of this size on every platform");
        Self(context)
    }
}

impl Unit for ZstdFrame {
    const STREAM: &'static str = "zstd stream";

    /// The first byte of 0xFD2FB528 and of 0x184D2A50 to 0x184D2A5F, little-endian (RFC 8878, 3.1).
    fn begins_with(byte: u8) -> bool {
        byte == 0x28 || byte & 0xf0 == 0x50
    }

    fn restart(&mut self) {
        // A context that has ended a frame begins the next one by itself.
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> std::result::Result<(Step, bool), Damage> {
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        // The result is a hint for the next read's size; 0 means that a frame is complete and all of it is out.
        let result = self.0.decompress_stream(&mut target, &mut source);
        let step = Step { consumed: source.pos(), produced: target.pos() };
        match result {
            Ok(hint) => Ok((step, hint == 0)),
            Err(code) => Err(damage(step.consumed, code)),
        }
    }
}

/// Whole frames, at most `limit` bytes of content; FORMAT beyond. Memory grows with what really comes out.
pub fn zstd_decompress(source: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut frames = Members::new(ZstdFrame::new());
    let mut content = Vec::new();
    let mut at = 0;
    let mut length = 0;
    loop {
        if length == content.len() {
            let larger = (content.len() * 2).max(source.len() * 4).max(FIRST_OUTPUT);
            content.resize(larger.min(limit.saturating_add(1)), 0);
        }
        let step = frames.step(&source[at..], &mut content[length..])?;
        at += step.consumed;
        length += step.produced;
        if length > limit {
            return Err(CodecError::format_at(
                ZstdFrame::STREAM,
                at as u64,
                format!("more than {limit} bytes of content"),
            ));
        }
        if step == Step::default() {
            frames.finish()?;
            content.truncate(length);
            return Ok(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The begin of a frame: magic number, descriptor, and what that says follows it.
    fn frame(fields: &[u8]) -> Vec<u8> {
        [&[0x28, 0xb5, 0x2f, 0xfd], fields, &[0; 16]].concat()
    }

    #[test]
    fn what_a_sound_frame_may_ask_for_is_not_damage() {
        // Windows of 2^28 and 2^27 bytes, the dictionary with number 7, and a reserved bit.
        let (large, fitting, dictionary, broken) = (&[0, 0x90], &[0, 0x88], &[1, 0x38, 7], &[8, 0x38]);
        let problem = |fields: &[u8]| zstd_decompress(&frame(fields), 100).unwrap_err();
        let unsupported = |text: &str| CodecError::Unsupported { field: ZstdFrame::STREAM, problem: text.to_owned() };
        assert_eq!(problem(large), unsupported("a window of more than 128 MiB"));
        assert_eq!(problem(dictionary), unsupported("it was compressed with a dictionary"));
        for fields in [&fitting[..], broken] {
            assert!(matches!(problem(fields), CodecError::Format { .. }));
        }
    }
}
