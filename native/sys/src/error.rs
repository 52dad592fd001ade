//! One error for every failed system call.

use rustix::io::Errno;
use std::ffi::CString;
use std::fmt;
use std::io;

pub type Result<T> = std::result::Result<T, SysError>;

/// A system call that failed: what was tried, on what, with which errno, and what the kernel said besides.
#[derive(Debug, Clone)]
pub struct SysError {
    pub op: &'static str,
    pub subject: String,
    pub errno: i32,
    /// The kernel's own message, where it has one (the log of a mount context).
    pub detail: Option<String>,
}

impl SysError {
    pub fn new(op: &'static str, subject: impl Into<String>, errno: i32) -> Self {
        SysError { op, subject: subject.into(), errno, detail: None }
    }

    pub(crate) fn of(op: &'static str, subject: impl Into<String>, errno: Errno) -> Self {
        Self::new(op, subject, errno.raw_os_error())
    }

    /// From `errno` of this thread.
    pub fn last(op: &'static str, subject: impl Into<String>) -> Self {
        Self::from_io(op, subject, &io::Error::last_os_error())
    }

    pub fn from_io(op: &'static str, subject: impl Into<String>, error: &io::Error) -> Self {
        Self::new(op, subject, error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.op, self.subject, io::Error::from_raw_os_error(self.errno))?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SysError {}

/// A string for the kernel; EINVAL when it holds a NUL.
pub(crate) fn c_string(op: &'static str, text: impl AsRef<[u8]>) -> Result<CString> {
    let text = text.as_ref();
    CString::new(text).map_err(|_| SysError::of(op, lossy(text).replace('\0', "\\0"), Errno::INVAL))
}

/// Bytes of a path as text for a person.
pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
