//! A directory that a tree is unpacked into. Paths are bytes, relative to it; the kernel resolves them beneath it and
//! without following a single symbolic link (openat2), so nothing that was unpacked leads anywhere else.

use crate::error::{Result, SysError};
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

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
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
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
        let parent_c = c_bytes(op, parent)?;
        let how = OpenHow {
            flags: (libc::O_DIRECTORY | libc::O_PATH | libc::O_CLOEXEC) as u64,
            mode: 0,
            resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        // SAFETY: a valid string, and a structure with its size.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.root.as_raw_fd(),
                parent_c.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        let fd = owned(op, parent, fd as RawFd)?;
        let raw = fd.as_raw_fd();
        self.last = Some((parent.to_vec(), fd));
        Ok((raw, name))
    }
}

fn owned(op: &'static str, path: &[u8], fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: a fresh descriptor that nobody else has.
    if fd < 0 { Err(SysError::last(op, lossy(path))) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

fn check(op: &'static str, path: &[u8], done: libc::c_int) -> Result<()> {
    if done == 0 { Ok(()) } else { Err(SysError::last(op, lossy(path))) }
}

fn c_bytes(op: &'static str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| SysError::new(op, lossy(bytes).replace('\0', "\\0"), libc::EINVAL))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
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
