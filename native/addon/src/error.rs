//! Errors across the bridge: what JavaScript gets is an `Error` whose `code` is an `ErrorCode` of `src/errors.ts`.

use lacuna_codec::CodecError;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The codes that native code uses; their meaning is written in `src/errors.ts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Usage,
    NotFound,
    Precondition,
    Forbidden,
    DigestMismatch,
    Format,
    Unsupported,
    System,
    Aborted,
    Internal,
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Self::Usage => "USAGE",
            Self::NotFound => "NOT_FOUND",
            Self::Precondition => "PRECONDITION",
            Self::Forbidden => "FORBIDDEN",
            Self::DigestMismatch => "DIGEST_MISMATCH",
            Self::Format => "FORMAT",
            Self::Unsupported => "UNSUPPORTED",
            Self::System => "SYSTEM",
            Self::Aborted => "ABORTED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// The one error of the bridge.
#[derive(Clone, Debug)]
pub struct BridgeError {
    pub code: Code,
    pub message: String,
    /// Of a failed system call.
    pub errno: Option<i32>,
}

/// What the code inside the bridge returns.
pub type Outcome<T> = std::result::Result<T, BridgeError>;

/// What a `#[napi]` function returns, under this very name, by which napi's macro knows that it can fail. The error is
/// thrown with its `Code` as the `code`.
pub type Result<T> = std::result::Result<T, napi::Error<Code>>;

impl BridgeError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), errno: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A failed system call: `op` says what was tried and on what.
    pub fn system(op: &str, error: &io::Error) -> Self {
        Self::new(code_of(error.kind()), format!("{op}: {error}")).with_errno(error.raw_os_error())
    }

    pub fn with_errno(self, errno: Option<i32>) -> Self {
        Self { errno, ..self }
    }

    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::new(Code::Internal, format!("native code panicked: {text}"))
    }
}

/// As `toLacunaError` of `src/errors.ts` does it for Node's own system errors.
fn code_of(kind: io::ErrorKind) -> Code {
    match kind {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied => Code::Forbidden,
        _ => Code::System,
    }
}

impl From<CodecError> for BridgeError {
    fn from(error: CodecError) -> Self {
        let code = match &error {
            CodecError::Format { .. } => Code::Format,
            CodecError::DigestMismatch { .. } => Code::DigestMismatch,
            CodecError::Unsupported { .. } => Code::Unsupported,
            CodecError::State { .. } => Code::Precondition,
            CodecError::Closed { .. } => Code::Aborted,
            CodecError::Io { kind, .. } => code_of(*kind),
        };
        Self::new(code, error.to_string())
    }
}

impl From<napi::Error> for BridgeError {
    fn from(error: napi::Error) -> Self {
        Self::new(Code::Internal, format!("{}: {}", error.status, error.reason))
    }
}

impl From<BridgeError> for napi::Error<Code> {
    fn from(error: BridgeError) -> Self {
        Self::new(error.code, error.message)
    }
}

/// The body of every synchronous native function. napi lets a panic through, and a panic through C aborts Node.
pub fn guarded<T>(body: impl FnOnce() -> Outcome<T>) -> Result<T> {
    Ok(caught(body)?)
}

/// Runs `body`; a panic in it is an INTERNAL error.
pub fn caught<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(BridgeError::panicked(&*payload)))
}
