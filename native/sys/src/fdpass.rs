//! One descriptor beside the bytes of a message (SCM_RIGHTS).

use crate::error::{Result, SysError};
use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room for the control message of one descriptor.
const CONTROL: usize = cmsg_space!(ScmRights(1));

/// Sends `data` with a descriptor attached to its first byte; returns how many bytes went.
pub fn send_with_fd(socket: impl AsFd, data: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fd.is_some() {
        control.push(SendAncillaryMessage::ScmRights(fd.as_slice()));
    }
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(data)], &mut control, SendFlags::NOSIGNAL))
        .map_err(|errno| SysError::of("sendmsg", "socket", errno))
}

/// Receives into `buffer`; the descriptor, when one came with it, is close-on-exec. 0 bytes: the peer has closed.
pub fn recv_with_fd(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC))
            .map_err(|errno| SysError::of("recvmsg", "socket", errno))?;
    // More than one are closed: by the kernel what does not fit, the rest with `control`.
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((message.bytes, fd))
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
        assert_eq!(send_with_fd(&a, b"here", Some(writer.as_fd())).unwrap(), 4);
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
    fn of_many_descriptors_one_is_kept() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(100))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [writer.as_fd(); 100];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&a, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        let (_, fd) = recv_with_fd(&b, &mut [0]).unwrap();
        drop(File::from(fd.unwrap()));
        // The end comes when nobody can write any more.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
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
