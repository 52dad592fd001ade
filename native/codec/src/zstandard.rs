//! zstd with contexts that are made once per thread and reused.

use crate::error::{CodecError, Result};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ErrorCode};

/// `ZSTD_error_dstSize_tooSmall` of zstd_errors.h; an error code is its negative.
const DST_SIZE_TOO_SMALL: ErrorCode = 0usize.wrapping_sub(70);

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

pub(crate) fn problem(code: ErrorCode) -> String {
    zstd_safe::get_error_name(code).to_owned()
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
