//! The one error of this crate.

use lacuna_codec::CodecError;
use lacuna_sys::SysError;
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone)]
pub enum Error {
    /// A system call failed.
    System(SysError),
    /// Bytes do not decode, or not to their digest.
    Codec(CodecError),
    /// A chunk table breaks its format; `offset` is a byte of it.
    Format {
        field: &'static str,
        offset: usize,
        problem: String,
    },
    /// The caller asks for what makes no sense.
    Usage(String),
    NotFound(String),
    AlreadyExists(String),
    /// The holder answered something that breaks its protocol, or keeps the session of an incompatible version.
    Holder(String),
    /// The file system was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System(error) => error.fmt(f),
            Error::Codec(error) => error.fmt(f),
            Error::Format { field, offset, problem } => write!(f, "chunk table: {field} at byte {offset}: {problem}"),
            Error::Usage(problem) => f.write_str(problem),
            Error::NotFound(subject) => write!(f, "{subject} not found"),
            Error::AlreadyExists(subject) => write!(f, "{subject} exists already"),
            Error::Holder(problem) => write!(f, "holder: {problem}"),
            Error::Closed => f.write_str("the blob file system was closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<SysError> for Error {
    fn from(error: SysError) -> Self {
        Error::System(error)
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Error::Codec(error)
    }
}
