//! Advisory file locks.

use crate::error::{Result, SysError};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// An exclusive flock(2) on the file at `path`, which is created (0600) when absent; None when somebody else has it.
/// Held as long as the descriptor is open. The descriptor is close-on-exec, so a child does not keep the lock alive.
pub fn try_lock(path: &str) -> Result<Option<OwnedFd>> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| SysError::from_io("open lock", path, &e))?;
    loop {
        // SAFETY: a descriptor that we own.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(Some(file.into()));
        }
        match SysError::last("lock", path) {
            error if error.errno == libc::EWOULDBLOCK => return Ok(None),
            error if error.errno == libc::EINTR => continue,
            error => return Err(error),
        }
    }
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
}
