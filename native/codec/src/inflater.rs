//! What the safe interface of zlib-rs lacks, through its C one: raw deflate from the middle of a byte with a window
//! before it, and stops at the borders of deflate blocks. The only unsafe code of this crate.

use libz_rs_sys as zlib;
use std::ffi::{CStr, c_int};

/// 15 bits of window without a wrapper (negative), or with gzip's header and trailer (plus 16): zlib.h, inflateInit2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapper {
    Raw,
    Gzip,
}

impl Wrapper {
    fn window_bits(self) -> c_int {
        match self {
            Self::Raw => -15,
            Self::Gzip => 15 + 16,
        }
    }
}

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inflated {
    pub consumed: usize,
    pub produced: usize,
    /// The stream is over; with [`Wrapper::Gzip`] its checksums were found right.
    pub ended: bool,
    /// Where this call stopped, when that is the start of a deflate block or the end of the last one.
    pub border: Option<Border>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Border {
    /// So many of the last consumed byte's high bits belong to what follows: 0 to 7.
    pub bits: u8,
    /// No block follows.
    pub last: bool,
}

/// Bytes that are no deflate stream, found after `consumed` of the input.
#[derive(Debug)]
pub(crate) struct Broken {
    pub consumed: usize,
    pub problem: String,
}

pub(crate) struct Inflater {
    /// Boxed: zlib keeps pointers to it.
    stream: Box<zlib::z_stream>,
}

// SAFETY: the stream and its state have one owner and hold no pointer into any other thread's memory between calls.
unsafe impl Send for Inflater {}

impl Inflater {
    pub fn new(wrapper: Wrapper) -> Self {
        let mut stream = Box::new(zlib::z_stream::default());
        // SAFETY: a fresh stream, its real size, and the version string of the very library that is called.
        let code = unsafe {
            zlib::inflateInit2_(
                &mut *stream,
                wrapper.window_bits(),
                zlib::zlibVersion(),
                size_of::<zlib::z_stream>() as c_int,
            )
        };
        assert_eq!(code, zlib::Z_OK, "fails only without memory");
        Self { stream }
    }

    /// Begins anew, as if just made.
    pub fn reset(&mut self, wrapper: Wrapper) {
        // SAFETY: initialised in `new`.
        let code = unsafe { zlib::inflateReset2(&mut *self.stream, wrapper.window_bits()) };
        assert_eq!(code, zlib::Z_OK, "an initialised stream can be reset");
    }

    /// Makes a fresh raw stream go on behind `window` with the `bits` (0 to 7) high bits of `byte`.
    pub fn resume(&mut self, window: &[u8], bits: u8, byte: u8) {
        assert!(bits < 8);
        if bits > 0 {
            // SAFETY: initialised in `new`.
            let code =
                unsafe { zlib::inflatePrime(&mut *self.stream, c_int::from(bits), c_int::from(byte >> (8 - bits))) };
            assert_eq!(code, zlib::Z_OK, "an empty bit buffer has room for 7 bits");
        }
        if !window.is_empty() {
            let length = u32::try_from(window.len()).expect("a window is at most 32 KiB");
            // SAFETY: initialised in `new`; pointer and length are those of a slice.
            let code = unsafe { zlib::inflateSetDictionary(&mut *self.stream, window.as_ptr(), length) };
            assert_eq!(code, zlib::Z_OK, "a raw stream takes a window at any time");
        }
    }

    /// Decodes as much as fits, with `at_borders` at most up to the next border of deflate blocks.
    pub fn step(&mut self, input: &[u8], output: &mut [u8], at_borders: bool) -> Result<Inflated, Broken> {
        let limit = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (available, room) = (limit(input.len()), limit(output.len()));
        let stream = &mut *self.stream;
        stream.next_in = input.as_ptr().cast_mut();
        stream.avail_in = available;
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = room;
        let flush = if at_borders { zlib::Z_BLOCK } else { zlib::Z_NO_FLUSH };
        // SAFETY: initialised in `new`; input is only read and output only written, both within their lengths.
        let code = unsafe { zlib::inflate(stream, flush) };
        let consumed = (available - stream.avail_in) as usize;
        let produced = (room - stream.avail_out) as usize;
        match code {
            zlib::Z_OK | zlib::Z_STREAM_END | zlib::Z_BUF_ERROR => {
                let state = stream.data_type;
                // zlib.h, inflate: bit 7 says that this is a border, then fewer than 8 bits are unused.
                let is_border = code == zlib::Z_OK && state & 128 != 0;
                let border = is_border.then_some(Border { bits: (state & 7) as u8, last: state & 64 != 0 });
                Ok(Inflated { consumed, produced, ended: code == zlib::Z_STREAM_END, border })
            }
            _ => Err(Broken { consumed, problem: self.problem(code) }),
        }
    }

    fn problem(&self, code: c_int) -> String {
        if self.stream.msg.is_null() {
            return format!("zlib error {code}");
        }
        // SAFETY: zlib's messages are constants that end with a NUL.
        unsafe { CStr::from_ptr(self.stream.msg) }.to_string_lossy().into_owned()
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, ended only here.
        unsafe { zlib::inflateEnd(&mut *self.stream) };
    }
}
