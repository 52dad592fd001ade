//! Opening what lies below a directory while others change it: the kernel resolves a path beneath the directory, follows
//! no symbolic link and enters no other mount (openat2), so what is opened belongs to the tree that the directory heads.

use crate::error::{Result, SysError};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;

/// Of linux/openat2.h.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// A directory to be listed. The flags keep what takes its place from being waited for.
pub(crate) const DIRECTORY: libc::c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;
/// A directory, to which paths are relative.
pub(crate) const DIRECTORY_PATH: libc::c_int = libc::O_PATH | libc::O_DIRECTORY;

/// Opens `path` below `dir`. ELOOP or ENOTDIR at a symbolic link, EXDEV at a mount point or above `dir`.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let how = OpenHow {
        flags: (flags | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    // SAFETY: a valid string, and a structure with its size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<OpenHow>())
    };
    owned(fd as RawFd)
}

/// Opens the regular file at `path` below `dir` for reading; None when there is none: nothing, a file of another type, or
/// a symbolic link or a mount point on the way. Files of other types are not opened: that alone may have an effect.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<Option<OwnedFd>> {
    let found = match open_beneath(dir, path, libc::O_PATH) {
        Ok(found) => found,
        Err(error) if is_changed(&error) || error.raw_os_error() == Some(libc::EXDEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    if kind_of(&stat(found.as_fd(), c"")?) != libc::S_IFREG {
        return Ok(None);
    }
    // The descriptor, not the path, is opened again: the file cannot be another one.
    let link = CString::new(format!("/proc/self/fd/{}", found.as_raw_fd())).expect("no NUL");
    // SAFETY: a valid string; the result is checked.
    owned(unsafe { libc::open(link.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).map(Some)
}

/// Whether an error of [`open_beneath`] says that the path leads to nothing of that type, now at least.
pub(crate) fn is_changed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// What is named `name` in `dir`, links not followed; `dir` itself for the empty name.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<libc::statx> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let mut found = MaybeUninit::zeroed();
    // SAFETY: a valid string, and a structure that the kernel fills.
    check(unsafe { libc::statx(dir.as_raw_fd(), name.as_ptr(), flags, libc::STATX_BASIC_STATS, found.as_mut_ptr()) })?;
    // SAFETY: zeros were valid already.
    Ok(unsafe { found.assume_init() })
}

/// The type of a file: one of `S_IF…`.
pub(crate) fn kind_of(stat: &libc::statx) -> libc::mode_t {
    libc::mode_t::from(stat.stx_mode) & libc::S_IFMT
}

/// The directory that `path` lies in, and its last name. Links on the way to the directory are followed: the caller vouches
/// for them.
pub(crate) fn open_parent(op: &'static str, path: &[u8]) -> Result<(OwnedFd, CString)> {
    let (parent, name) = split(path);
    if matches!(name, b"" | b"." | b"..") {
        return Err(SysError::new(op, lossy(path), libc::EINVAL));
    }
    let parent_c = match path.first() {
        Some(b'/') if parent.is_empty() => c"/".into(),
        _ if parent.is_empty() => c".".into(),
        _ => c_bytes(op, parent)?,
    };
    // SAFETY: a valid string; the result is checked.
    let fd = owned(unsafe { libc::open(parent_c.as_ptr(), DIRECTORY_PATH | libc::O_CLOEXEC) });
    Ok((fd.map_err(|error| SysError::from_io(op, lossy(parent), &error))?, c_bytes(op, name)?))
}

/// What is before the last slash, and the name behind it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}

pub(crate) fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a fresh descriptor that nobody else has.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

pub(crate) fn check(done: libc::c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A path for the kernel; EINVAL when it holds a NUL.
pub(crate) fn c_bytes(op: &'static str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| SysError::new(op, lossy(bytes).replace('\0', "\\0"), libc::EINVAL))
}

pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
