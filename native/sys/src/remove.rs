//! Deletes a tree, however deep, whoever else changes it meanwhile; see `walk`.

use crate::beneath::{DIRECTORY, is_changed, open_beneath, open_parent};
use crate::error::{Result, SysError, lossy};
use crate::listing::Entry;
use crate::walk::{REACH, Reach, Step, Visitor, Walk};
use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::{self, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;

/// How often an entry is tried as a directory and as another file in turn, while somebody exchanges them.
const MAX_TRIES: u32 = 64;

/// Deletes what `path` names with all that is in it; nothing there is fine. Links on the way to it are followed, below it
/// none. What was deleted before an error stays deleted, and the call may be repeated.
///
/// EBUSY when something is mounted there, ENOTEMPTY when somebody keeps filling it, ECANCELED when stopped.
pub fn remove_tree(path: &[u8], stop: &AtomicBool) -> Result<()> {
    remove(path, stop, REACH)
}

pub(crate) fn remove(path: &[u8], stop: &AtomicBool, reach: Reach) -> Result<()> {
    let failed = |errno| SysError::of(Remover::OP, lossy(path), errno);
    let (parent, name) = match open_parent(Remover::OP, path) {
        Err(error) if error.errno == libc::ENOENT => return Ok(()),
        parent => parent?,
    };
    for _ in 0..MAX_TRIES {
        if let Step::Past = delete(parent.as_fd(), &name, FileType::Directory).map_err(failed)? {
            return Ok(());
        }
        match open_beneath(parent.as_fd(), &name, DIRECTORY) {
            Ok(top) => Walk::new(&mut Remover, stop, reach).run(top, path)?,
            Err(errno) if is_changed(errno) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::NOTEMPTY))
}

struct Remover;

impl Visitor for Remover {
    const OP: &'static str = "remove";
    const DELETES: bool = true;

    fn enter(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, entry: &Entry) -> io::Result<Step> {
        delete(directory, &entry.name, entry.kind)
    }
}

/// Deletes a file or an empty directory; into a directory that is not empty. `kind` is only what is tried first.
fn delete(directory: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<Step> {
    let mut flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    for _ in 0..MAX_TRIES {
        match unlinkat(directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Step::Past),
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Step::Into),
            Err(Errno::ISDIR | Errno::NOTDIR) => flags ^= AtFlags::REMOVEDIR,
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOTEMPTY)
}
