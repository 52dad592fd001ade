//! A directory with a tree of which nothing leads anywhere else: paths are bytes, relative to it, and resolved beneath it
//! (see `beneath`).

use crate::beneath::{self, DIRECTORY_PATH, c_bytes, lossy, open_beneath, open_regular, split};
use crate::error::{Result, SysError};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// What `create` makes.
pub enum Kind<'a> {
    Directory,
    Symlink(&'a [u8]),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

pub struct TreeDir {
    root: OwnedFd,
    /// Names come directory by directory, so the last parent is nearly always the next one.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl TreeDir {
    pub fn open(path: &[u8]) -> Result<Self> {
        let path_c = c_bytes("open", path)?;
        // SAFETY: a valid string; the result is checked.
        let root = unsafe { libc::open(path_c.as_ptr(), libc::O_DIRECTORY | libc::O_PATH | libc::O_CLOEXEC) };
        Ok(TreeDir { root: owned("open", path, root)?, last: None })
    }

    /// Makes what is no file, with mode 0700. EEXIST when the name is taken.
    pub fn create(&mut self, path: &[u8], kind: &Kind) -> Result<()> {
        let (dir, name) = self.parent("create", path)?;
        // SAFETY: valid strings, and a descriptor that lives as long as the call.
        let node = |format, device| unsafe { libc::mknodat(dir, name.as_ptr(), format | 0o600, device) };
        let done = match kind {
            // SAFETY: as above.
            Kind::Directory => unsafe { libc::mkdirat(dir, name.as_ptr(), 0o700) },
            Kind::Symlink(target) => {
                let target = c_bytes("symlink", target)?;
                // SAFETY: as above.
                unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) }
            }
            Kind::Char(major, minor) => node(libc::S_IFCHR, libc::makedev(*major, *minor)),
            Kind::Block(major, minor) => node(libc::S_IFBLK, libc::makedev(*major, *minor)),
            Kind::Fifo => node(libc::S_IFIFO, 0),
            Kind::Socket => node(libc::S_IFSOCK, 0),
        };
        check("create", path, done)
    }

    /// A new file, open for writing; the descriptor is the caller's.
    pub fn file(&mut self, path: &[u8]) -> Result<RawFd> {
        let (dir, name) = self.parent("create", path)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: as above.
        let fd = unsafe { libc::openat(dir, name.as_ptr(), flags, 0o600 as libc::c_uint) };
        Ok(owned("create", path, fd)?.into_raw_fd())
    }

    /// A file of the tree, open for reading; the descriptor is the caller's. None when `path` is no regular file.
    pub fn open_file(&mut self, path: &[u8]) -> Result<Option<RawFd>> {
        let path_c = c_bytes("open", path)?;
        let opened = open_regular(self.root.as_fd(), &path_c);
        Ok(opened.map_err(|error| SysError::from_io("open", lossy(path), &error))?.map(IntoRawFd::into_raw_fd))
    }

    pub fn link(&mut self, existing: &[u8], path: &[u8]) -> Result<()> {
        let (from, from_name) = self.parent("link", existing)?;
        // The next call may take the place of the first one's descriptor.
        // SAFETY: a descriptor of ours.
        let from = owned("link", existing, unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, 0) })?;
        let (dir, name) = self.parent("link", path)?;
        // SAFETY: as above.
        let done = unsafe { libc::linkat(from.as_raw_fd(), from_name.as_ptr(), dir, name.as_ptr(), 0) };
        check("link", path, done)
    }

    pub fn chown(&mut self, path: &[u8], uid: u32, gid: u32) -> Result<()> {
        let (dir, name) = self.parent("chown", path)?;
        // SAFETY: as above.
        check("chown", path, unsafe { libc::fchownat(dir, name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) })
    }

    /// Not for symbolic links: they would be followed.
    pub fn chmod(&mut self, path: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.parent("chmod", path)?;
        // SAFETY: as above.
        check("chmod", path, unsafe { libc::fchmodat(dir, name.as_ptr(), mode, 0) })
    }

    pub fn set_mtime(&mut self, path: &[u8], sec: i64, nsec: u32) -> Result<()> {
        let (dir, name) = self.parent("utimensat", path)?;
        let time = libc::timespec { tv_sec: sec, tv_nsec: i64::from(nsec) };
        let times = [time, time];
        // SAFETY: as above, and two times.
        let done = unsafe { libc::utimensat(dir, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
        check("utimensat", path, done)
    }

    pub fn set_xattr(&mut self, path: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        let (dir, name) = self.parent("setxattr", path)?;
        // There is no setxattrat before Linux 6.13; through /proc the last name is still not followed.
        let mut place = format!("/proc/self/fd/{dir}/").into_bytes();
        place.extend_from_slice(name.as_bytes());
        let place = c_bytes("setxattr", &place)?;
        let key = c_bytes("setxattr", key)?;
        // SAFETY: valid strings, and a value with its length.
        let done = unsafe { libc::lsetxattr(place.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        check("setxattr", path, done)
    }

    /// The directory that `path` lies in, and its last name; `.` for the root itself.
    fn parent(&mut self, op: &'static str, path: &[u8]) -> Result<(RawFd, CString)> {
        if path.is_empty() {
            return Ok((self.root.as_raw_fd(), c".".into()));
        }
        let (parent, name) = split(path);
        if matches!(name, b"" | b"." | b"..") {
            return Err(SysError::new(op, lossy(path), libc::EINVAL));
        }
        let name = c_bytes(op, name)?;
        if parent.is_empty() {
            return Ok((self.root.as_raw_fd(), name));
        }
        if let Some((known, fd)) = &self.last
            && known == parent
        {
            return Ok((fd.as_raw_fd(), name));
        }
        let fd = open_beneath(self.root.as_fd(), &c_bytes(op, parent)?, DIRECTORY_PATH)
            .map_err(|error| SysError::from_io(op, lossy(parent), &error))?;
        let raw = fd.as_raw_fd();
        self.last = Some((parent.to_vec(), fd));
        Ok((raw, name))
    }
}

fn owned(op: &'static str, path: &[u8], fd: RawFd) -> Result<OwnedFd> {
    beneath::owned(fd).map_err(|error| SysError::from_io(op, lossy(path), &error))
}

fn check(op: &'static str, path: &[u8], done: libc::c_int) -> Result<()> {
    beneath::check(done).map_err(|error| SysError::from_io(op, lossy(path), &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_and_nothing_leaves_the_directory() {
        let dir = std::env::temp_dir().join(format!("lacuna-tree-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut tree = TreeDir::open(dir.to_str().unwrap().as_bytes()).unwrap();
        symlink("/tmp", dir.join("out")).unwrap();
        for path in ["out/x", "../x", "/tmp/x", "a/../../x"] {
            assert!(tree.create(path.as_bytes(), &Kind::Directory).is_err(), "{path}");
        }
        for path in ["..", ".", "a/", "a/.."] {
            assert_eq!(tree.create(path.as_bytes(), &Kind::Directory).unwrap_err().errno, libc::EINVAL, "{path}");
        }
        tree.create(b"a", &Kind::Directory).unwrap();
        tree.create(b"a/b", &Kind::Symlink(b"..")).unwrap();
        assert!(tree.file(b"a/b/c").is_err());
        assert_eq!(tree.create(b"out", &Kind::Directory).unwrap_err().errno, libc::EEXIST);
        tree.set_mtime(b"out", -5, 7).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
