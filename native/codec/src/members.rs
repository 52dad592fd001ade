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

/// Damage, found after so many bytes of the step's input.
pub(crate) struct Damage {
    pub consumed: usize,
    pub problem: String,
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
