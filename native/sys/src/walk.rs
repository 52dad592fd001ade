//! Walks over a tree while others may change it: a container's files, of which a process may still have a descriptor.
//!
//! Each directory is opened once, by its name in its open parent, and everything that concerns its entries goes through its
//! descriptor: no path is ever put together. So exchanging a directory for a link leads the walk nowhere, and no path is
//! too long. A mount point is not entered.
//!
//! Neither memory nor descriptors grow with the tree: the upper directories of the current branch stay open. Deeper ones
//! are closed while the walk is below them; it comes back through `..`, which must lead to the same inode.

use crate::beneath::{DIRECTORY, is_changed, open_beneath, stat};
use crate::error::{Result, SysError, lossy};
use crate::listing::{Entry, Listing};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{self, Errno};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// How much of a branch a walk remembers.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    /// Directories that stay open, at least 2. Each has a piece of its listing.
    pub open: usize,
    /// Directories below those to which it finds back, of 32 bytes each.
    pub closed: usize,
}

pub(crate) const REACH: Reach = Reach { open: 16, closed: 1 << 20 };

/// How often a walk that deletes enters the same directory anew because it was filled again.
const MAX_VISITS: u32 = 64;

pub(crate) enum Step {
    /// To the next entry.
    Past,
    /// Into this entry, if it is a directory.
    Into,
}

pub(crate) trait Visitor {
    /// What its errors say was being done.
    const OP: &'static str;
    /// Whether it deletes what it is shown. An entry that the walk has been in is then shown again, and whatever the walk
    /// lost on its way is found anew.
    const DELETES: bool;

    /// A directory, before its entries.
    fn enter(&mut self, directory: BorrowedFd<'_>) -> io::Result<()>;
    fn entry(&mut self, directory: BorrowedFd<'_>, entry: &Entry) -> io::Result<Step>;
}

/// A directory that was closed while the walk is below it.
struct Closed {
    inode: Inode,
    offset: u64,
    visits: u32,
}

type Inode = (u32, u32, u64);

fn inode_of(directory: BorrowedFd<'_>) -> io::Result<Inode> {
    let stat = stat(directory, c"")?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

pub(crate) struct Walk<'a, V> {
    visitor: &'a mut V,
    stop: &'a AtomicBool,
    reach: Reach,
    /// The current branch from the top; the last one is the current directory.
    open: Vec<Listing>,
    /// The directories between the last two of `open`.
    closed: VecDeque<Closed>,
}

impl<'a, V: Visitor> Walk<'a, V> {
    pub fn new(visitor: &'a mut V, stop: &'a AtomicBool, reach: Reach) -> Self {
        Walk { visitor, stop, reach, open: Vec::new(), closed: VecDeque::new() }
    }

    /// Shows the visitor all that is in `top`, which `path` names in errors. ECANCELED when stopped; of walks that delete
    /// EBUSY at a mount point, and ENOTEMPTY when somebody keeps filling a directory.
    pub fn run(&mut self, top: OwnedFd, path: &[u8]) -> Result<()> {
        let done = self.push(top).and_then(|()| self.steps());
        done.map_err(|errno| SysError::of(V::OP, self.place().unwrap_or_else(|| lossy(path)), errno))
    }

    fn steps(&mut self) -> io::Result<()> {
        while let Some(directory) = self.open.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            if !directory.load()? {
                self.leave()?;
                continue;
            }
            match self.visitor.entry(directory.fd(), directory.entry())? {
                Step::Past => directory.advance(),
                Step::Into => self.descend()?,
            }
        }
        Ok(())
    }

    fn descend(&mut self) -> io::Result<()> {
        let directory = self.open.last_mut().expect("an entry has a directory");
        let child = open_beneath(directory.fd(), &directory.entry().name, DIRECTORY);
        if V::DELETES {
            directory.visits += 1;
            if directory.visits > MAX_VISITS {
                return Err(Errno::NOTEMPTY);
            }
        } else {
            directory.advance();
        }
        match child {
            Ok(child) => self.push(child),
            Err(Errno::XDEV) if V::DELETES => Err(Errno::BUSY),
            Err(errno) if is_changed(errno) || errno == Errno::XDEV => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn push(&mut self, directory: OwnedFd) -> io::Result<()> {
        self.visitor.enter(directory.as_fd())?;
        if self.open.len() == self.reach.open {
            self.close_last()?;
        }
        self.open.push(Listing::new(directory));
        Ok(())
    }

    fn close_last(&mut self) -> io::Result<()> {
        if self.closed.len() == self.reach.closed {
            if !V::DELETES {
                return Err(Errno::NAMETOOLONG);
            }
            self.closed.pop_front();
        }
        let last = self.open.pop().expect("the branch is full");
        self.closed.push_back(Closed { inode: inode_of(last.fd())?, offset: last.offset(), visits: last.visits });
        Ok(())
    }

    /// From a directory that is done back to the one above it; to the nearest open one when it has been moved.
    fn leave(&mut self) -> io::Result<()> {
        let done = self.open.pop().expect("a directory is done");
        let Some(above) = self.closed.pop_back() else { return Ok(()) };
        match open_above(done.fd(), above.inode)? {
            Some(parent) => self.open.push(Listing::resume(parent, above.offset, above.visits)?),
            None => self.closed.clear(),
        }
        Ok(())
    }

    /// The path of the current directory, if it is not too long.
    fn place(&self) -> Option<String> {
        let link = format!("/proc/self/fd/{}", self.open.last()?.fd().as_raw_fd());
        Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())
    }
}

/// The directory above, if it is (still) `expected`. `..` may lead anywhere by now, so nothing is done there before.
fn open_above(directory: BorrowedFd<'_>, expected: Inode) -> io::Result<Option<OwnedFd>> {
    match openat(directory, c"..", DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(parent) => Ok((inode_of(parent.as_fd())? == expected).then_some(parent)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
