//! UNIX sockets that only their owner may open, and who is at the other end of one.

use crate::error::{Result, SysError, c_string};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Bytes of a socket's path: `sun_path` of unix(7) without its NUL.
const MAX_PATH: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 511;

/// A listening stream socket at `path`, where nothing may be yet; close-on-exec. Its mode is 0600 from the beginning: it is
/// set before the socket gets its name, which bind(2) then takes it over from. So there is no moment in which somebody
/// else could connect, and no umask is changed, which other threads would make their files with.
pub fn listen_private(path: &str) -> Result<OwnedFd> {
    let failed = |op| move |errno| SysError::of(op, path, errno);
    let address = address_of(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(failed("make socket"))?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(failed("make socket private"))?;
    bind(&socket, &address).map_err(failed("bind socket"))?;
    listen(&socket, BACKLOG).map_err(failed("listen on socket"))?;
    Ok(socket)
}

fn address_of(path: &str) -> Result<SocketAddrUnix> {
    const OP: &str = "bind socket";
    let path_c = c_string(OP, path)?;
    if path.len() > MAX_PATH {
        return Err(SysError::of(OP, path, Errno::NAMETOOLONG));
    }
    SocketAddrUnix::new(&path_c).map_err(|errno| SysError::of(OP, path, errno))
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
    // rustix's own call cannot be used: the process id in its result must not be 0.
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
    use rustix::process::{geteuid, umask};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_is_private_whatever_the_umask_and_tells_who_connects() {
        let path = std::env::temp_dir().join(format!("lacuna-socket-{}", std::process::id()));
        let text = path.to_str().unwrap();
        // The tests of this crate make no files whose mode they look at besides this one.
        let before = umask(Mode::empty());
        let listener = UnixListener::from(listen_private(text).unwrap());
        umask(before);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let us = Peer { pid: std::process::id() as i32, uid: geteuid().as_raw() };
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
