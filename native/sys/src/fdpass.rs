//! One descriptor beside the bytes of a message (SCM_RIGHTS).

use crate::error::{Result, SysError};
use std::io::{IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Room for the control message of one descriptor, aligned as cmsghdr wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

const FD_SIZE: u32 = size_of::<RawFd>() as u32;

/// Sends `data` with a descriptor attached to its first byte; returns how many bytes went.
pub fn send_with_fd(socket: impl AsFd, data: &[u8], fd: Option<RawFd>) -> Result<usize> {
    let slices = [IoSlice::new(data)];
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the control buffer is larger than one header with one descriptor, and zeroed.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(FD_SIZE) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(FD_SIZE) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast(), fd);
        }
    }
    loop {
        // SAFETY: all that the message points to is alive.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => match SysError::last("sendmsg", "socket") {
                error if error.errno == libc::EINTR => continue,
                error => return Err(error),
            },
        }
    }
}

/// Receives into `buffer`; the descriptor, when one came with it, is close-on-exec. 0 bytes: the peer has closed.
pub fn recv_with_fd(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = slices.as_mut_ptr().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // Exactly one descriptor fits; the kernel closes what does not.
    // SAFETY: a pure computation.
    message.msg_controllen = unsafe { libc::CMSG_LEN(FD_SIZE) } as _;
    let received = loop {
        // SAFETY: all that the message points to is alive and writable.
        let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(n) {
            Ok(n) => break n,
            Err(_) => match SysError::last("recvmsg", "socket") {
                error if error.errno == libc::EINTR => continue,
                error => return Err(error),
            },
        }
    };
    // SAFETY: the kernel filled in the control buffer; a header is only read when it is complete.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        let carries_fd = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(FD_SIZE) as usize;
        carries_fd.then(|| OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(header).cast())))
    };
    Ok((received, fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        assert_eq!(send_with_fd(&a, b"here", Some(writer.as_raw_fd())).unwrap(), 4);
        let mut buffer = [0u8; 16];
        let (n, fd) = recv_with_fd(&b, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"here");
        File::from(fd.unwrap()).write_all(b"through").unwrap();
        writer.write_all(b"!").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through!");
    }

    #[test]
    fn no_descriptor_and_the_end() {
        let (a, b) = UnixStream::pair().unwrap();
        send_with_fd(&a, b"x", None).unwrap();
        drop(a);
        let mut buffer = [0u8; 16];
        assert!(matches!(recv_with_fd(&b, &mut buffer), Ok((1, None))));
        assert!(matches!(recv_with_fd(&b, &mut buffer), Ok((0, None))));
    }
}
