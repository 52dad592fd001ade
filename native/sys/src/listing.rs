//! The entries of an open directory, read in pieces: a directory of millions of names costs no more memory than a small one.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of entries that are read at once; a name takes at most 280.
const PIECE: usize = 32 * 1024;

/// Where the fields of `linux_dirent64` lie.
const OFFSET: usize = 8;
const LENGTH: usize = 16;
const KIND: usize = 18;
const NAME: usize = 19;

/// A name in a directory.
pub(crate) struct Entry<'a> {
    pub name: &'a CStr,
    /// What the directory says of its type: one of `DT_…`.
    pub kind: u8,
}

/// An open directory with the entry that is worked on.
pub(crate) struct Listing {
    fd: OwnedFd,
    piece: Vec<u8>,
    /// Where the current entry lies in `piece`; its end when a piece has to be read.
    at: usize,
    /// Where the current entry lies in the directory.
    offset: i64,
    /// How often the walk has gone into the current entry.
    pub visits: u32,
}

impl Listing {
    pub fn new(fd: OwnedFd) -> Self {
        Listing { fd, piece: Vec::new(), at: 0, offset: 0, visits: 0 }
    }

    /// The same directory, opened again, from the entry at `offset` on.
    pub fn resume(fd: OwnedFd, offset: i64, visits: u32) -> io::Result<Self> {
        // SAFETY: a descriptor of ours.
        if unsafe { libc::lseek(fd.as_raw_fd(), offset, libc::SEEK_SET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Listing { offset, visits, ..Self::new(fd) })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What [`Self::resume`] takes for this place.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Makes sure that there is a current entry; false at the end of the directory.
    pub fn load(&mut self) -> io::Result<bool> {
        loop {
            if self.at == self.piece.len() && !self.read()? {
                return Ok(false);
            }
            if !matches!(self.entry().name.to_bytes(), b"." | b"..") {
                return Ok(true);
            }
            self.skip();
        }
    }

    /// After [`Self::load`] was true.
    pub fn entry(&self) -> Entry<'_> {
        let record = &self.piece[self.at..];
        let name = CStr::from_bytes_until_nul(&record[NAME..]).expect("the kernel ends names with a NUL");
        Entry { name, kind: record[KIND] }
    }

    /// To the next entry.
    pub fn advance(&mut self) {
        self.skip();
        self.visits = 0;
    }

    fn skip(&mut self) {
        let record = &self.piece[self.at..];
        self.offset = i64::from_ne_bytes(record[OFFSET..][..8].try_into().expect("8 bytes"));
        self.at += usize::from(u16::from_ne_bytes(record[LENGTH..][..2].try_into().expect("2 bytes")));
    }

    fn read(&mut self) -> io::Result<bool> {
        self.at = 0;
        self.piece.resize(PIECE, 0);
        // SAFETY: a buffer with its length.
        let length =
            unsafe { libc::syscall(libc::SYS_getdents64, self.fd.as_raw_fd(), self.piece.as_mut_ptr(), PIECE) };
        let failure = io::Error::last_os_error();
        self.piece.truncate(usize::try_from(length).unwrap_or(0));
        // A directory that was deleted lists nothing.
        if length < 0 && failure.raw_os_error() != Some(libc::ENOENT) {
            return Err(failure);
        }
        Ok(length > 0)
    }
}
