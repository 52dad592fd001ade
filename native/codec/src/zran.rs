//! Spans of a gzip stream: decoding that begins at the border of a deflate block, with the state the stream has there.

use crate::error::{CodecError, Result};
use crate::inflater::{Inflater, Wrapper};

/// The farthest back that deflate refers: no window is longer.
pub const MAX_WINDOW_SIZE: usize = 32 << 10;

/// CRC-32 and length behind each gzip member (RFC 1952).
const TRAILER_SIZE: usize = 8;
/// Magic, method, flags, time, extra flags, system.
const HEADER_SIZE: usize = 10;
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// The state of a gzip stream at the border of two deflate blocks.
#[derive(Clone, Copy, Debug)]
pub struct ZranState<'a> {
    /// The plain text just before; empty at the start of a member.
    pub window: &'a [u8],
    /// So many high bits of `byte`, the one before the span, belong to the span.
    pub bits: u8,
    pub byte: u8,
}

/// Decodes exactly `out.len()` bytes, over the ends of members; what follows in `stored` is ignored. Members' checksums
/// are not looked at: a span may hold parts of them only, and chunks have digests.
pub(crate) fn decode_span(stored: &[u8], state: ZranState<'_>, out: &mut [u8]) -> Result<()> {
    let ZranState { window, bits, byte } = state;
    if bits > 7 {
        return Err(CodecError::format("ctx_bits", format!("{bits} bits of a byte")));
    }
    if window.len() > MAX_WINDOW_SIZE {
        return Err(CodecError::format("dict_size", format!("{} is over {MAX_WINDOW_SIZE}", window.len())));
    }
    let mut inflater = Inflater::new(Wrapper::Raw);
    inflater.resume(window, bits, byte);
    let (mut at, mut length) = (0, 0);
    while length < out.len() {
        let failed = |at: usize, problem: String| CodecError::format_at("deflate stream", at as u64, problem);
        let step = inflater
            .step(&stored[at..], &mut out[length..], false)
            .map_err(|broken| failed(at + broken.consumed, broken.problem))?;
        at += step.consumed;
        length += step.produced;
        if length == out.len() {
            break;
        }
        if step.ended {
            // Every member is at least a header long, so empty ones end as well.
            at = member_start(stored, at + TRAILER_SIZE)?;
            inflater.reset(Wrapper::Raw);
        } else if step.consumed == 0 && step.produced == 0 {
            return Err(failed(at, format!("ends after {length} of {} bytes", out.len())));
        }
    }
    Ok(())
}

/// Where the deflate stream of the gzip member begins whose header is at `at`.
fn member_start(stored: &[u8], at: usize) -> Result<usize> {
    let failed = |problem: &str| CodecError::format_at("gzip header", at as u64, problem);
    let cut = || failed("truncated");
    let header = stored.get(at..).unwrap_or_default();
    let (fixed, mut rest) = header.split_at_checked(HEADER_SIZE).ok_or_else(cut)?;
    if fixed[..3] != [0x1f, 0x8b, 8] {
        return Err(failed("no deflate member"));
    }
    let flags = fixed[3];
    if flags & RESERVED != 0 {
        return Err(failed("reserved flags"));
    }
    if flags & FEXTRA != 0 {
        let (size, behind) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        rest = behind.get(usize::from(u16::from_le_bytes(*size))..).ok_or_else(cut)?;
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or_else(cut)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & FHCRC != 0 {
        rest = rest.get(2..).ok_or_else(cut)?;
    }
    Ok(stored.len() - rest.len())
}
