//! Opening what lies below a directory while others change it: the kernel resolves a path beneath the directory, follows
//! no symbolic link and enters no other mount (openat2), so what is opened belongs to the tree that the directory heads.

use crate::error::{Result, SysError, c_string, lossy};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, open, openat2, statx};
use rustix::io::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A directory to be listed. The flags keep what takes its place from being waited for.
pub(crate) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// A directory, to which paths are relative.
pub(crate) const DIRECTORY_PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens `path` below `dir`. ELOOP or ENOTDIR at a symbolic link, EXDEV at a mount point or above `dir`.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens the regular file at `path` below `dir` for reading; None when there is none: nothing, a file of another type, or
/// a symbolic link or a mount point on the way. Files of other types are not opened: that alone may have an effect.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<Option<OwnedFd>> {
    let found = match open_beneath(dir, path, OFlags::PATH) {
        Ok(found) => found,
        Err(errno) if is_changed(errno) || errno == Errno::XDEV => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if kind_of(&stat(found.as_fd(), c"")?) != FileType::RegularFile {
        return Ok(None);
    }
    // The descriptor, not the path, is opened again: the file cannot be another one.
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Some)
}

/// Whether an error of [`open_beneath`] says that the path leads to nothing of that type, now at least.
pub(crate) fn is_changed(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// What is named `name` in `dir`, links not followed; `dir` itself for the empty name.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

pub(crate) fn kind_of(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The directory that `path` lies in, and its last name. Links on the way to the directory are followed: the caller vouches
/// for them.
pub(crate) fn open_parent(op: &'static str, path: &[u8]) -> Result<(OwnedFd, CString)> {
    let (parent, name) = split(path);
    if matches!(name, b"" | b"." | b"..") {
        return Err(SysError::of(op, lossy(path), Errno::INVAL));
    }
    let directory = match path.first() {
        Some(b'/') if parent.is_empty() => c"/".into(),
        _ if parent.is_empty() => c".".into(),
        _ => c_string(op, parent)?,
    };
    let fd = open(directory, DIRECTORY_PATH, Mode::empty());
    Ok((fd.map_err(|errno| SysError::of(op, lossy(parent), errno))?, c_string(op, name)?))
}

/// What is before the last slash, and the name behind it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}
