//! Deletes a tree, however deep, whoever else changes it meanwhile; see `walk`.

use crate::beneath::{DIRECTORY, is_changed, lossy, open_beneath, open_parent};
use crate::error::{Result, SysError};
use crate::listing::Entry;
use crate::walk::{REACH, Reach, Step, Visitor, Walk, errno};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
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
    let failed = |error: io::Error| SysError::from_io(Remover::OP, lossy(path), &error);
    let (parent, name) = match open_parent(Remover::OP, path) {
        Err(error) if error.errno == libc::ENOENT => return Ok(()),
        parent => parent?,
    };
    for _ in 0..MAX_TRIES {
        if let Step::Past = delete(parent.as_fd(), &name, libc::DT_DIR).map_err(failed)? {
            return Ok(());
        }
        match open_beneath(parent.as_fd(), &name, DIRECTORY) {
            Ok(top) => Walk::new(&mut Remover, stop, reach).run(top, path)?,
            Err(error) if is_changed(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(errno(libc::ENOTEMPTY)))
}

struct Remover;

impl Visitor for Remover {
    const OP: &'static str = "remove";
    const DELETES: bool = true;

    fn enter(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, entry: &Entry<'_>) -> io::Result<Step> {
        delete(directory, entry.name, entry.kind)
    }
}

/// Deletes a file or an empty directory; into a directory that is not empty. `kind` is only what is tried first.
fn delete(directory: BorrowedFd<'_>, name: &CStr, kind: u8) -> io::Result<Step> {
    let mut flags = if kind == libc::DT_DIR { libc::AT_REMOVEDIR } else { 0 };
    for _ in 0..MAX_TRIES {
        // SAFETY: a valid string.
        if unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), flags) } == 0 {
            return Ok(Step::Past);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT) => return Ok(Step::Past),
            Some(libc::ENOTEMPTY | libc::EEXIST) => return Ok(Step::Into),
            Some(libc::EISDIR | libc::ENOTDIR) => flags ^= libc::AT_REMOVEDIR,
            _ => return Err(error),
        }
    }
    Err(errno(libc::ENOTEMPTY))
}
