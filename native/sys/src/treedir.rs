//! A directory with a tree of which nothing leads anywhere else: paths are bytes, relative to it, and resolved beneath it
//! (see `beneath`).

use crate::beneath::{DIRECTORY_PATH, open_beneath, open_regular, split};
use crate::error::{Result, SysError, c_string, lossy};
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, linkat,
    lsetxattr, makedev, mkdirat, mknodat, open, openat, symlinkat, utimensat,
};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// What a file has before it is given its mode.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

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
        let root = open(&c_string("open", path)?, DIRECTORY_PATH, Mode::empty());
        Ok(TreeDir { root: checked("open", path, root)?, last: None })
    }

    /// Makes what is no file, with mode 0700. EEXIST when the name is taken.
    pub fn create(&mut self, path: &[u8], kind: &Kind) -> Result<()> {
        let (dir, name) = self.parent("create", path)?;
        let node = |kind, id| mknodat(dir, &name, kind, PRIVATE, id);
        let done = match kind {
            Kind::Directory => mkdirat(dir, &name, Mode::RWXU),
            Kind::Symlink(target) => symlinkat(&c_string("symlink", target)?, dir, &name),
            Kind::Char(major, minor) => device(*major, *minor).and_then(|id| node(FileType::CharacterDevice, id)),
            Kind::Block(major, minor) => device(*major, *minor).and_then(|id| node(FileType::BlockDevice, id)),
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Socket => node(FileType::Socket, 0),
        };
        checked("create", path, done)
    }

    /// A new file, open for writing; the descriptor is the caller's.
    pub fn file(&mut self, path: &[u8]) -> Result<RawFd> {
        let (dir, name) = self.parent("create", path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(checked("create", path, openat(dir, &name, flags, PRIVATE))?.into_raw_fd())
    }

    /// A file of the tree, open for reading; the descriptor is the caller's. None when `path` is no regular file.
    pub fn open_file(&mut self, path: &[u8]) -> Result<Option<RawFd>> {
        let opened = open_regular(self.root.as_fd(), &c_string("open", path)?);
        Ok(checked("open", path, opened)?.map(IntoRawFd::into_raw_fd))
    }

    pub fn link(&mut self, existing: &[u8], path: &[u8]) -> Result<()> {
        let (from, from_name) = self.parent("link", existing)?;
        // The next call may take the place of the first one's descriptor.
        let from = checked("link", existing, fcntl_dupfd_cloexec(from, 0))?;
        let (dir, name) = self.parent("link", path)?;
        checked("link", path, linkat(&from, &from_name, dir, &name, AtFlags::empty()))
    }

    /// An owner of u32::MAX stays as it is.
    pub fn chown(&mut self, path: &[u8], uid: u32, gid: u32) -> Result<()> {
        let (dir, name) = self.parent("chown", path)?;
        let (uid, gid) = (Uid::from_raw_unchecked(uid), Gid::from_raw_unchecked(gid));
        checked("chown", path, chownat(dir, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Not for symbolic links: they would be followed.
    pub fn chmod(&mut self, path: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.parent("chmod", path)?;
        checked("chmod", path, chmodat(dir, &name, Mode::from_raw_mode(mode), AtFlags::empty()))
    }

    pub fn set_mtime(&mut self, path: &[u8], sec: i64, nsec: u32) -> Result<()> {
        let (dir, name) = self.parent("utimensat", path)?;
        let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        checked("utimensat", path, utimensat(dir, &name, &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    pub fn set_xattr(&mut self, path: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        let (dir, name) = self.parent("setxattr", path)?;
        // There is no setxattrat before Linux 6.13; through /proc the last name is still not followed.
        let mut place = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        place.extend_from_slice(name.as_bytes());
        let key = c_string("setxattr", key)?;
        checked("setxattr", path, lsetxattr(place, &key, value, XattrFlags::empty()))
    }

    /// The directory that `path` lies in, and its last name; `.` for the root itself.
    fn parent(&mut self, op: &'static str, path: &[u8]) -> Result<(BorrowedFd<'_>, CString)> {
        if path.is_empty() {
            return Ok((self.root.as_fd(), c".".into()));
        }
        let (parent, name) = split(path);
        if matches!(name, b"" | b"." | b"..") {
            return Err(SysError::of(op, lossy(path), Errno::INVAL));
        }
        let name = c_string(op, name)?;
        if parent.is_empty() {
            return Ok((self.root.as_fd(), name));
        }
        let last = match self.last.take() {
            Some(last) if last.0 == parent => last,
            _ => (parent.to_vec(), open_parent(op, &self.root, parent)?),
        };
        Ok((self.last.insert(last).1.as_fd(), name))
    }
}

/// The number of a device. EINVAL when it has more than the kernel's 32 bits, which would make another device of it.
fn device(major: u32, minor: u32) -> io::Result<Dev> {
    u32::try_from(makedev(major, minor)).map(Dev::from).map_err(|_| Errno::INVAL)
}

fn open_parent(op: &'static str, root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    checked(op, path, open_beneath(root.as_fd(), &c_string(op, path)?, DIRECTORY_PATH))
}

fn checked<T>(op: &'static str, path: &[u8], done: io::Result<T>) -> Result<T> {
    done.map_err(|errno| SysError::of(op, lossy(path), errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

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

    #[test]
    fn a_device_is_made_with_its_own_number_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("lacuna-device-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut tree = TreeDir::open(dir.to_str().unwrap().as_bytes()).unwrap();
        for (major, minor) in [(1 << 12, 0), (0, 1 << 20), (u32::MAX, u32::MAX)] {
            for kind in [Kind::Char(major, minor), Kind::Block(major, minor)] {
                assert_eq!(tree.create(b"large", &kind).unwrap_err().errno, libc::EINVAL, "{major}:{minor}");
            }
        }
        match tree.create(b"largest", &Kind::Char((1 << 12) - 1, (1 << 20) - 1)) {
            Ok(()) => assert_eq!(std::fs::metadata(dir.join("largest")).unwrap().rdev(), u64::from(u32::MAX)),
            Err(error) => assert_eq!(error.errno, libc::EPERM), // not root
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
