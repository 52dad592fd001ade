//! The index of a gzip stream, made while it is decoded: places from which it can be decoded again, each with the state
//! the stream has there, and how much input is needed to get how far.
//!
//! All of it lies at borders of deflate blocks, so it depends on the stream alone, not on the pieces it arrived in.

use crate::inflater::{Border, Inflater, Wrapper};
use crate::members::{Damage, Step, Unit};
use crate::zran::MAX_WINDOW_SIZE;
use std::sync::{Arc, Mutex, PoisonError};

/// The next checkpoint comes after so many compressed or plain bytes: half of what Nydus gives a span at most.
const SPACING_IN: u64 = 512 << 10;
const SPACING_OUT: u64 = 1 << 20;
/// The start of a member needs no window, so it is taken sooner.
const SPACING_MEMBER: u64 = 128 << 10;
/// Marks are so many compressed bytes apart: what a span fetches too much, at most, besides the block it ends in.
const SPACING_MARK: u64 = 16 << 10;

/// A place from which the stream can be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where the deflate block begins, in whole bytes of the compressed stream, and in the plain one.
    pub in_offset: u64,
    pub out_offset: u64,
    /// So many high bits of `byte`, the one before `in_offset`, belong to the block; `byte` is 0 when none do.
    pub bits: u8,
    pub byte: u8,
    /// The plain text before it, of the same member.
    pub window: Vec<u8>,
}

/// The first `in_end` compressed bytes give the first `out_end` plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub in_end: u64,
    pub out_end: u64,
}

/// What was found, in the order of the stream.
#[derive(Default)]
pub struct Checkpoints {
    pub places: Vec<Checkpoint>,
    pub marks: Vec<Mark>,
}

/// Checkpoints on their way from the decoder to whoever keeps them.
#[derive(Clone, Default)]
pub(crate) struct Found(Arc<Mutex<Checkpoints>>);

impl Found {
    /// What was added since the last call.
    pub fn take(&self) -> Checkpoints {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, place: Option<Checkpoint>, mark: Option<Mark>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.places.extend(place);
        found.marks.extend(mark);
    }
}

/// Gzip members that leave checkpoints.
pub(crate) struct IndexedGzip {
    inflater: Inflater,
    found: Found,
    /// Bytes so far, over all members.
    total_in: u64,
    total_out: u64,
    /// The last byte consumed.
    byte: u8,
    /// The end of the member's plain text, up to twice a window.
    tail: Vec<u8>,
    is_member_start: bool,
    last_place: Option<(u64, u64)>,
    last_mark: u64,
}

impl IndexedGzip {
    pub fn new(found: Found) -> Self {
        Self {
            inflater: Inflater::new(Wrapper::Gzip),
            found,
            total_in: 0,
            total_out: 0,
            byte: 0,
            tail: Vec::with_capacity(2 * MAX_WINDOW_SIZE),
            is_member_start: true,
            last_place: None,
            last_mark: 0,
        }
    }

    /// Moves what is kept only now and then: blocks may be as short as a byte.
    fn remember(&mut self, produced: &[u8]) {
        let kept = &produced[produced.len().saturating_sub(MAX_WINDOW_SIZE)..];
        if self.tail.len() + kept.len() > 2 * MAX_WINDOW_SIZE {
            self.tail.drain(..self.tail.len() - MAX_WINDOW_SIZE);
        }
        self.tail.extend_from_slice(kept);
    }

    fn window(&self) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(MAX_WINDOW_SIZE)..]
    }

    fn note(&mut self, Border { bits, last }: Border) {
        let start = std::mem::replace(&mut self.is_member_start, false);
        let (at, out) = (self.total_in, self.total_out);
        let is_due = |(place_in, place_out): (u64, u64)| {
            at - place_in >= SPACING_IN || out - place_out >= SPACING_OUT || start && at - place_in >= SPACING_MEMBER
        };
        let place = (!last && self.last_place.is_none_or(is_due)).then(|| {
            let byte = if bits == 0 { 0 } else { self.byte };
            self.last_place = Some((at, out));
            Checkpoint { in_offset: at, out_offset: out, bits, byte, window: self.window().to_vec() }
        });
        let mark = (at - self.last_mark >= SPACING_MARK).then(|| {
            self.last_mark = at;
            Mark { in_end: at, out_end: out }
        });
        if place.is_some() || mark.is_some() {
            self.found.add(place, mark);
        }
    }
}

impl Unit for IndexedGzip {
    const STREAM: &'static str = "gzip stream";

    fn begins_with(byte: u8) -> bool {
        byte == 0x1f
    }

    fn restart(&mut self) {
        self.inflater.reset(Wrapper::Gzip);
        self.tail.clear();
        self.is_member_start = true;
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(Step, bool), Damage> {
        let mut done = Step::default();
        loop {
            let step = self
                .inflater
                .step(&input[done.consumed..], &mut output[done.produced..], true)
                .map_err(|broken| Damage::broken(done.consumed + broken.consumed, broken.problem))?;
            if let Some(&byte) = input[..done.consumed + step.consumed].last() {
                self.byte = byte;
            }
            self.remember(&output[done.produced..done.produced + step.produced]);
            done.consumed += step.consumed;
            done.produced += step.produced;
            self.total_in += step.consumed as u64;
            self.total_out += step.produced as u64;
            if let Some(border) = step.border {
                self.note(border);
            }
            if step.ended {
                // Whatever comes, the whole member is enough for its content.
                self.last_mark = self.total_in;
                self.found.add(None, Some(Mark { in_end: self.total_in, out_end: self.total_out }));
                return Ok((done, true));
            }
            // A border stops a call that could have gone on.
            if step.border.is_none() || step.consumed == 0 && step.produced == 0 {
                return Ok((done, false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Members;
    use crate::zran::{ZranState, decode_span};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0; content.len() + 1000];
        let mut deflate = zlib_rs::Deflate::new(6, true, 15 + 16);
        assert_eq!(deflate.compress(content, &mut out, zlib_rs::DeflateFlush::Finish), Ok(zlib_rs::Status::StreamEnd));
        out.truncate(deflate.total_out() as usize);
        out
    }

    /// Text that compresses about 2:1.
    fn text(size: usize, mut seed: u64) -> Vec<u8> {
        (0..size)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                b'a' + ((seed >> 33) & 15) as u8
            })
            .collect()
    }

    fn index(stored: &[u8], piece: usize, room: usize) -> (Vec<u8>, Checkpoints) {
        let found = Found::default();
        let mut members = Members::new(IndexedGzip::new(found.clone()));
        let (mut content, mut at, mut buffer) = (Vec::new(), 0, vec![0; room]);
        loop {
            let step = members.step(&stored[at..stored.len().min(at + piece)], &mut buffer).unwrap();
            at += step.consumed;
            content.extend_from_slice(&buffer[..step.produced]);
            if step == Step::default() && at == stored.len() {
                members.finish().unwrap();
                return (content, found.take());
            }
        }
    }

    #[test]
    fn every_checkpoint_decodes_to_every_mark_behind_it() {
        let large = text(5_000_000, 1);
        let parts = [&large[..], &text(40_000, 2), &text(300_000, 3), &text(1_500_000, 4), &[0; 3_000_000]];
        let stored = parts.map(gzip).concat();
        let (content, found) = index(&stored, 70_001, 123_456);
        assert_eq!(content, parts.concat());
        assert!(found.places.len() >= 8, "{}", found.places.len());
        assert!(found.places.iter().any(|place| place.bits > 0 && place.window.len() == MAX_WINDOW_SIZE));
        for place in &found.places {
            let state = ZranState { window: &place.window, bits: place.bits, byte: place.byte };
            for mark in found.marks.iter().filter(|mark| mark.out_end > place.out_offset).step_by(17) {
                let bytes = &stored[place.in_offset as usize..mark.in_end as usize];
                let mut out = vec![0; (mark.out_end - place.out_offset) as usize];
                decode_span(bytes, state, &mut out).unwrap();
                assert!(out == content[place.out_offset as usize..mark.out_end as usize]);
            }
        }
        for pair in found.places.windows(2) {
            assert!(
                pair[1].in_offset - pair[0].in_offset >= SPACING_MEMBER
                    || pair[1].out_offset - pair[0].out_offset >= SPACING_OUT
            );
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let stored = [gzip(&text(2_500_000, 7)), gzip(&text(700_000, 8))].concat();
        let (_, once) = index(&stored, stored.len(), 10_000_000);
        for (piece, room) in [(1000, 999), (701, 1 << 20), (65_536, 65_536)] {
            let (_, pieces) = index(&stored, piece, room);
            assert_eq!(pieces.places, once.places);
            assert_eq!(pieces.marks, once.marks);
        }
    }

    #[test]
    fn empty_members_and_blocks_leave_little() {
        let stored = gzip(b"").repeat(100_000);
        let (content, found) = index(&stored, 4096, 4096);
        assert!(content.is_empty());
        assert!(found.places.len() <= stored.len() / SPACING_MEMBER as usize + 1);
    }
}
