//! The one error of this crate.

use std::fmt;
use std::io;

pub type Result<T> = std::result::Result<T, CodecError>;

/// Why something could not be decoded, hashed or written. Cheap to clone: a stream reports its first error to
/// everybody who asks afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// Bytes break their format. `offset` is a byte offset into the encoded input, where there is one.
    Format { field: &'static str, offset: Option<u64>, problem: String },
    /// Decoded bytes do not hash to the digest that was promised.
    DigestMismatch { field: &'static str, expected: String, actual: String },
    /// Known, but not supported by this version.
    Unsupported { field: &'static str, problem: String },
    /// The caller did things in an order that is not possible.
    State { problem: &'static str },
    /// The stream or file was closed meanwhile.
    Closed { subject: &'static str },
    /// A system call failed: what was tried, on what.
    Io { op: String, kind: io::ErrorKind, problem: String },
}

impl CodecError {
    pub fn format(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Format { field, offset: None, problem: problem.into() }
    }

    pub fn format_at(field: &'static str, offset: u64, problem: impl Into<String>) -> Self {
        Self::Format { field, offset: Some(offset), problem: problem.into() }
    }

    pub fn io(op: impl Into<String>, error: &io::Error) -> Self {
        Self::Io { op: op.into(), kind: error.kind(), problem: error.to_string() }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { field, offset: None, problem } => write!(f, "{field}: {problem}"),
            Self::Format { field, offset: Some(offset), problem } => {
                write!(f, "{field} at byte {offset}: {problem}")
            }
            Self::DigestMismatch { field, expected, actual } => {
                write!(f, "{field}: expected {expected}, the bytes have {actual}")
            }
            Self::Unsupported { field, problem } => write!(f, "{field}: {problem}"),
            Self::State { problem } => f.write_str(problem),
            Self::Closed { subject } => write!(f, "{subject} was closed"),
            Self::Io { op, problem, .. } => write!(f, "{op}: {problem}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Lower-case hex, as digests are written everywhere in this field.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
