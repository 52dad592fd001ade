//! Streams made of several compressed units one after another: gzip members, zstd frames.

use crate::error::{CodecError, Result};

/// What one call of a decoder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub consumed: usize,
    pub produced: usize,
}

/// One unit of a format, decoded piece by piece.
pub(crate) trait Unit {
    /// Names the stream in errors.
    const STREAM: &'static str;

    /// Whether a unit can begin with this byte. Zero never can: it is padding.
    fn begins_with(byte: u8) -> bool;

    /// Makes ready for the next unit.
    fn restart(&mut self);

    /// Decodes as much as fits; true when the unit ended with what was consumed, its checksums found right.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> std::result::Result<(Step, bool), Damage>;
}

/// What ends the decoding, found after so many bytes of the step's input.
pub(crate) struct Damage {
    consumed: usize,
    problem: String,
    /// The stream may be sound.
    unsupported: bool,
}

impl Damage {
    pub fn broken(consumed: usize, problem: impl Into<String>) -> Self {
        Self { consumed, problem: problem.into(), unsupported: false }
    }

    pub fn unsupported(consumed: usize, problem: impl Into<String>) -> Self {
        Self { consumed, problem: problem.into(), unsupported: true }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Inside,
    Between,
    Padding,
}

/// Units one after another. Zero bytes may follow the last one (tape blocks; gzip accepts them too), nothing else.
pub(crate) struct Members<U> {
    unit: U,
    place: Place,
    /// Bytes consumed so far.
    offset: u64,
}

impl<U: Unit> Members<U> {
    pub fn new(unit: U) -> Self {
        Self { unit, place: Place::Start, offset: 0 }
    }

    /// Decodes as much as fits. Nothing is consumed or produced when `input` is empty and all of the past is out.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step> {
        if self.place == Place::Between {
            match input.first() {
                None => return Ok(Step::default()),
                Some(0) => self.place = Place::Padding,
                Some(&byte) if U::begins_with(byte) => {
                    self.unit.restart();
                    self.place = Place::Inside;
                }
                Some(_) => return Err(self.damaged("trailing garbage")),
            }
        }
        if self.place == Place::Padding {
            return self.skip_padding(input);
        }
        if self.place == Place::Start && !input.is_empty() {
            self.place = Place::Inside;
        }
        match self.unit.step(input, output) {
            Ok((step, ended)) => {
                self.offset += step.consumed as u64;
                if ended {
                    self.place = Place::Between;
                }
                Ok(step)
            }
            Err(damage) => {
                self.offset += damage.consumed as u64;
                if damage.unsupported {
                    return Err(CodecError::Unsupported { field: U::STREAM, problem: damage.problem });
                }
                Err(self.damaged(damage.problem))
            }
        }
    }

    /// To be asked when there is no more input: FORMAT unless a unit has just ended.
    pub fn finish(&self) -> Result<()> {
        match self.place {
            Place::Start => Err(self.damaged("empty, not even one member")),
            Place::Inside => Err(self.damaged("truncated")),
            Place::Between | Place::Padding => Ok(()),
        }
    }

    fn skip_padding(&mut self, input: &[u8]) -> Result<Step> {
        let zeros = input.iter().take_while(|&&byte| byte == 0).count();
        self.offset += zeros as u64;
        if zeros < input.len() {
            return Err(self.damaged("trailing garbage after zero padding"));
        }
        Ok(Step { consumed: zeros, produced: 0 })
    }

    fn damaged(&self, problem: impl Into<String>) -> CodecError {
        CodecError::format_at(U::STREAM, self.offset, problem)
    }
}

/// Decodes all of `source` into `target`; FORMAT when it holds more than that. Gives how much it held.
pub(crate) fn decode_into<U: Unit>(unit: U, source: &[u8], target: &mut [u8]) -> Result<usize> {
    let mut members = Members::new(unit);
    let (mut at, mut length) = (0, 0);
    // One byte more than the target shows whether the stream ends where it has to.
    let mut beyond = [0; 1];
    loop {
        let room = if length < target.len() { &mut target[length..] } else { &mut beyond[..] };
        let step = members.step(&source[at..], room)?;
        at += step.consumed;
        length += step.produced;
        if length > target.len() {
            return Err(CodecError::format_at(U::STREAM, at as u64, format!("more than {} bytes", target.len())));
        }
        if step == Step::default() {
            return members.finish().map(|()| length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gzip::GzipMember;
    use crate::zstandard::ZstdFrame;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0; content.len() + 100];
        let mut deflate = zlib_rs::Deflate::new(6, true, 15 + 16);
        let status = deflate.compress(content, &mut out, zlib_rs::DeflateFlush::Finish).unwrap();
        assert_eq!(status, zlib_rs::Status::StreamEnd);
        out.truncate(deflate.total_out() as usize);
        out
    }

    /// Feeds and takes one byte at a time: every state is entered at every boundary.
    fn byte_by_byte<U: Unit>(unit: U, source: &[u8]) -> Result<Vec<u8>> {
        let mut members = Members::new(unit);
        let mut content = Vec::new();
        let mut at = 0;
        loop {
            let mut byte = [0; 1];
            let step = members.step(&source[at..source.len().min(at + 1)], &mut byte)?;
            at += step.consumed;
            content.extend_from_slice(&byte[..step.produced]);
            if step == Step::default() && at == source.len() {
                return members.finish().map(|()| content);
            }
        }
    }

    #[test]
    fn members_in_pieces_of_one_byte() {
        let source = [gzip(b"hello "), gzip(b""), gzip(b"world"), vec![0; 5]].concat();
        assert_eq!(byte_by_byte(GzipMember::new(), &source).unwrap(), b"hello world");
        let frame = |content| crate::zstd_compress(content, 3).unwrap();
        let source = [frame(b"hello "), frame(b""), frame(b"world"), vec![0; 5]].concat();
        assert_eq!(byte_by_byte(ZstdFrame::new(), &source).unwrap(), b"hello world");
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = [gzip(b"hello "), gzip(b"world")].concat();
        let first = gzip(b"hello ").len();
        for end in 0..whole.len() {
            assert_eq!(byte_by_byte(GzipMember::new(), &whole[..end]).is_ok(), end == first, "cut at {end}");
        }
    }

    #[test]
    fn garbage_is_told_from_padding() {
        let member = gzip(b"x");
        for (behind, ok) in [(&b"\0\0"[..], true), (b"\0x", false), (b"x", false), (b"\x1f\x8b", false)] {
            let source = [&member, behind].concat();
            assert_eq!(byte_by_byte(GzipMember::new(), &source).is_ok(), ok, "{behind:?}");
        }
    }

    #[test]
    fn decodes_into_exactly_what_there_is_room_for() {
        let source = [gzip(b"hello "), gzip(b"world")].concat();
        for (room, length) in [(11, Some(11)), (12, Some(11)), (10, None), (0, None)] {
            let decoded = decode_into(GzipMember::new(), &source, &mut vec![0; room]);
            assert_eq!(decoded.ok(), length, "room for {room}");
        }
    }
}
