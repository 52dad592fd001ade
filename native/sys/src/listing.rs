//! The entries of an open directory, read in pieces: a directory of millions of names costs no more memory than a small one.

use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::{self, Errno};
use std::collections::VecDeque;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of entries that are read at once; a name takes at most 280.
const PIECE: usize = 32 * 1024;

/// A name in a directory.
pub(crate) struct Entry {
    pub name: CString,
    /// What the directory says of its type.
    pub kind: FileType,
    /// Where the next entry lies in the directory.
    next: u64,
}

/// An open directory with the entry that is worked on.
pub(crate) struct Listing {
    fd: OwnedFd,
    /// The rest of a piece, without `.` and `..`; the first one is the current entry.
    entries: VecDeque<Entry>,
    /// Where the current entry lies in the directory, or one of the two before it.
    offset: u64,
    /// How often the walk has gone into the current entry.
    pub visits: u32,
}

impl Listing {
    pub fn new(fd: OwnedFd) -> Self {
        Listing { fd, entries: VecDeque::new(), offset: 0, visits: 0 }
    }

    /// The same directory, opened again, from the entry at `offset` on.
    pub fn resume(fd: OwnedFd, offset: u64, visits: u32) -> io::Result<Self> {
        seek(&fd, SeekFrom::Start(offset))?;
        Ok(Listing { offset, visits, ..Self::new(fd) })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What [`Self::resume`] takes for this place.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes sure that there is a current entry; false at the end of the directory.
    pub fn load(&mut self) -> io::Result<bool> {
        if self.entries.is_empty() {
            self.read()?;
        }
        Ok(!self.entries.is_empty())
    }

    /// After [`Self::load`] was true.
    pub fn entry(&self) -> &Entry {
        &self.entries[0]
    }

    /// To the next entry.
    pub fn advance(&mut self) {
        if let Some(done) = self.entries.pop_front() {
            self.offset = done.next;
        }
        self.visits = 0;
    }

    fn read(&mut self) -> io::Result<()> {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut raw = RawDir::new(&self.fd, &mut piece);
        while let Some(entry) = raw.next() {
            let entry = match entry {
                // A directory that was deleted lists nothing.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let (kind, next) = (entry.file_type(), entry.next_entry_cookie());
                self.entries.push_back(Entry { name: entry.file_name().into(), kind, next });
            }
            if raw.is_buffer_empty() && !self.entries.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
