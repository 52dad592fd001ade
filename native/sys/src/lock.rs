//! Advisory file locks.

use crate::error::{Result, SysError};
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// An exclusive flock(2) on the file at `path`, which is created (0600) when absent; None when somebody else has it.
/// On a read-only file system a file that is there can be locked. Held as long as the descriptor is open. The descriptor is close-on-exec, so a child does not keep the lock alive.
pub fn try_lock(path: &str) -> Result<Option<OwnedFd>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
        .or_else(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => OpenOptions::new().read(true).custom_flags(flags).open(path),
            _ => Err(error),
        })
        .map_err(|e| SysError::from_io("open lock", path, &e))?;
    Ok(flock(&file)?.then(|| file.into()))
}

/// An exclusive flock(2) on an open file or directory, held until its last descriptor is closed; false when somebody
/// else has it. It counts in every PID and network namespace, and only who can open the file can take it.
pub fn flock(file: impl AsFd) -> Result<bool> {
    let file = file.as_fd();
    match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(SysError::of("lock", format!("descriptor {}", file.as_raw_fd()), errno)),
    }
}

/// Whether [`flock`] failed because there are no locks: on network file systems without a lock manager, or mounted
/// without locks.
pub fn has_no_locks(error: &SysError) -> bool {
    matches!(error.errno, libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_closed() {
        let path = std::env::temp_dir().join(format!("lacuna-lock-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let first = try_lock(path).unwrap();
        assert!(first.is_some());
        assert!(try_lock(path).unwrap().is_none());
        drop(first);
        assert!(try_lock(path).unwrap().is_some());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_directory_can_be_locked_and_a_link_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("lacuna-lock-dir-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (one, two) = (File::open(&folder).unwrap(), File::open(&folder).unwrap());
        assert!(flock(&one).unwrap());
        assert!(!flock(&two).unwrap());
        drop(one);
        assert!(flock(&two).unwrap());
        let link = folder.join("link");
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        assert_eq!(try_lock(link.to_str().unwrap()).unwrap_err().errno, libc::ELOOP);
        assert!(!folder.join("elsewhere").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
