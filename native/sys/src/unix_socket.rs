//! UNIX sockets that only their owner may open, and who is at the other end of one.

use crate::error::{Result, SysError, c_string};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 511;

/// A listening stream socket at `path`, where nothing may be yet; close-on-exec. Its mode is 0600 from the beginning: it is
/// set before the socket gets its name, which bind(2) then takes it over from. So there is no moment in which somebody
/// else could connect, and no umask is changed, which other threads would make their files with.
pub fn listen_private(path: &str) -> Result<OwnedFd> {
    let failed = |op| SysError::last(op, path);
    let (address, length) = address_of(path)?;
    // SAFETY: a plain call; the descriptor is ours from here on.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(failed("make socket"));
        }
        OwnedFd::from_raw_fd(fd)
    };
    let fd = socket.as_raw_fd();
    // SAFETY: a descriptor that we own.
    if unsafe { libc::fchmod(fd, 0o600) } != 0 {
        return Err(failed("make socket private"));
    }
    // SAFETY: the address lives until the call returns, and is as long as it says.
    if unsafe { libc::bind(fd, (&raw const address).cast(), length) } != 0 {
        return Err(failed("bind socket"));
    }
    // SAFETY: a descriptor that we own.
    if unsafe { libc::listen(fd, BACKLOG) } != 0 {
        return Err(failed("listen on socket"));
    }
    Ok(socket)
}

fn address_of(path: &str) -> Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = c_string("bind socket", path)?.into_bytes_with_nul();
    // SAFETY: an all-zero sockaddr_un is valid.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    if bytes.len() > address.sun_path.len() {
        return Err(SysError::new("bind socket", path, libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // SAFETY: the bytes fit, as was just checked, and the two do not overlap.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address.sun_path.as_mut_ptr().cast(), bytes.len()) };
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

/// The process that connected a UNIX socket, as this process's namespaces show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// 0 when it lives in a PID namespace that cannot be seen from here.
    pub pid: i32,
    pub uid: u32,
}

/// SO_PEERCRED, see unix(7): credentials of the moment of connecting.
pub fn peer_of(socket: impl AsFd) -> Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the structure.
    let got = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut length)
    };
    if got != 0 {
        return Err(SysError::last("ask who connected", "socket"));
    }
    Ok(Peer { pid: peer.pid, uid: peer.uid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_is_private_whatever_the_umask_and_tells_who_connects() {
        let path = std::env::temp_dir().join(format!("lacuna-socket-{}", std::process::id()));
        let text = path.to_str().unwrap();
        // SAFETY: the tests of this crate make no files whose mode they look at besides this one.
        let before = unsafe { libc::umask(0) };
        let listener = UnixListener::from(listen_private(text).unwrap());
        // SAFETY: as above.
        unsafe { libc::umask(before) };
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // SAFETY: takes no argument.
        let uid = unsafe { libc::geteuid() };
        let us = Peer { pid: std::process::id() as i32, uid };
        assert_eq!(peer_of(&accepted).unwrap(), us);
        assert_eq!(peer_of(&client).unwrap(), us);
        assert_eq!(listen_private(text).unwrap_err().errno, libc::EADDRINUSE);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_or_has_too_long_a_path_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer_of(&file).unwrap_err().errno, libc::ENOTSOCK);
        assert_eq!(listen_private(&"x".repeat(108)).unwrap_err().errno, libc::ENAMETOOLONG);
    }
}
