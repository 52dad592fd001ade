//! What a tree takes on disk; see `walk`.

use crate::beneath::{DIRECTORY, kind_of, open_beneath, open_parent, stat};
use crate::error::{Result, SysError, lossy};
use crate::listing::Entry;
use crate::walk::{REACH, Reach, Step, Visitor, Walk};
use rustix::fs::{FileType, Statx, StatxAttributes};
use rustix::io::{self, Errno};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;

/// `stat` counts blocks in this unit, whatever the file system's.
const BLOCK_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes on disk.
    pub size: u64,
    pub inodes: u64,
}

/// Bytes on disk and inodes below and including the directory `path`, without what is mounted there; zeros when it is not
/// there. An inode with several names counts once. Links on the way to `path` are followed, below it none.
///
/// ENAMETOOLONG for directories inside each other that are too many to find back, ECANCELED when stopped.
pub fn tree_usage(path: &[u8], stop: &AtomicBool) -> Result<TreeUsage> {
    usage(path, stop, REACH)
}

pub(crate) fn usage(path: &[u8], stop: &AtomicBool, reach: Reach) -> Result<TreeUsage> {
    let (parent, name) = match open_parent(Counter::OP, path) {
        Err(error) if error.errno == libc::ENOENT => return Ok(TreeUsage::default()),
        parent => parent?,
    };
    let top = match open_beneath(parent.as_fd(), &name, DIRECTORY) {
        Err(Errno::NOENT) => return Ok(TreeUsage::default()),
        top => top.map_err(|errno| SysError::of(Counter::OP, lossy(path), errno))?,
    };
    let mut counter = Counter::default();
    Walk::new(&mut counter, stop, reach).run(top, path)?;
    Ok(counter.total())
}

/// Names and blocks that were seen.
#[derive(Clone, Copy, Default)]
struct Sum {
    names: u64,
    blocks: u64,
}

impl Sum {
    fn add(&mut self, stat: &Statx) {
        self.names += 1;
        self.blocks += stat.stx_blocks;
    }
}

/// Counts an inode with n names at each of them, and divides by n at the end. A set of the inodes that were seen would
/// grow with the tree; there are few different n.
#[derive(Default)]
struct Counter {
    single: Sum,
    linked: BTreeMap<u32, Sum>,
}

impl Counter {
    fn total(&self) -> TreeUsage {
        let shares = self.linked.iter().map(|(&links, sum)| {
            let links = u64::from(links);
            (sum.names.div_ceil(links), sum.blocks.div_ceil(links))
        });
        let whole = (self.single.names, self.single.blocks);
        let (inodes, blocks) = shares.fold(whole, |(inodes, blocks), share| (inodes + share.0, blocks + share.1));
        TreeUsage { size: blocks * BLOCK_BYTES, inodes }
    }
}

impl Visitor for Counter {
    const OP: &'static str = "count";
    const DELETES: bool = false;

    fn enter(&mut self, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.single.add(&stat(directory, c"")?);
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, entry: &Entry) -> io::Result<Step> {
        if entry.kind == FileType::Directory {
            return Ok(Step::Into);
        }
        let stat = match stat(directory, &entry.name) {
            Err(Errno::NOENT) => return Ok(Step::Past),
            stat => stat?,
        };
        if kind_of(&stat) == FileType::Directory {
            return Ok(Step::Into);
        }
        if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            let sum =
                if stat.stx_nlink > 1 { self.linked.entry(stat.stx_nlink).or_default() } else { &mut self.single };
            sum.add(&stat);
        }
        Ok(Step::Past)
    }
}
