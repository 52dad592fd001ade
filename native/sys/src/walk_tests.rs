//! Counting and deleting trees: of any depth, with little memory, and while others exchange what is in them.

use crate::remove::remove;
use crate::usage::usage;
use crate::walk::{REACH, Reach};
use crate::{SysError, TreeUsage, remove_tree, tree_usage};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// Of walks that nobody stops.
static ON: AtomicBool = AtomicBool::new(false);

/// An empty directory of its own, deleted with the test.
struct Base(PathBuf);

impl Base {
    fn new(name: &str) -> Self {
        // Memory, where it can be had: thousands of trees are made.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = folder.join(format!("lacuna-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Base(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        Command::new("rm").arg("-rf").arg(&self.0).status().unwrap();
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Directories inside each other, deeper than a path can tell.
fn nest(top: &Path, depth: usize) {
    let script = "import os, sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n  os.mkdir('d' * 200); os.chdir('d' * 200); open('f', 'w').write('x' * 5000)";
    assert!(Command::new("python3").args(["-c", script]).arg(top).arg(depth.to_string()).status().unwrap().success());
}

/// The same as `usage`, by path and with a set of all inodes.
fn count(path: &Path, seen: &mut HashSet<u64>) -> TreeUsage {
    let stat = fs::symlink_metadata(path).unwrap();
    if !seen.insert(stat.ino()) {
        return TreeUsage::default();
    }
    let mut sum = TreeUsage { size: stat.blocks() * 512, inodes: 1 };
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let below = count(&entry.unwrap().path(), seen);
            sum = TreeUsage { size: sum.size + below.size, inodes: sum.inodes + below.inodes };
        }
    }
    sum
}

/// A tree with `width` directories in each directory, files, links and hard links.
fn grow(top: &Path, width: usize, depth: usize) {
    fs::create_dir(top).unwrap();
    fs::write(top.join("file"), vec![7; width * 3000]).unwrap();
    symlink("/", top.join("link")).unwrap();
    fs::hard_link(top.join("file"), top.join("other")).unwrap();
    if depth > 0 {
        for i in 0..width {
            grow(&top.join(format!("d{i}")), width, depth - 1);
            fs::hard_link(top.join("file"), top.join(format!("d{i}/upper"))).unwrap();
        }
    }
}

#[test]
fn whatever_is_remembered_of_the_branch_the_result_is_the_same() {
    let base = Base::new("reach");
    let top = base.path("top");
    for (open, closed) in [(16, 1 << 20), (2, 100), (3, 3)] {
        grow(&top, 3, 4);
        let reach = Reach { open, closed };
        assert_eq!(usage(bytes(&top), &ON, reach).unwrap(), count(&top, &mut HashSet::new()));
        remove(bytes(&top), &ON, reach).unwrap();
        assert!(!top.exists());
    }
}

#[test]
fn a_branch_too_long_to_be_remembered_is_deleted_and_not_counted() {
    let base = Base::new("long");
    let top = base.path("top");
    grow(&top, 2, 6);
    let reach = Reach { open: 2, closed: 2 };
    assert_eq!(usage(bytes(&top), &ON, reach).unwrap_err().errno, libc::ENAMETOOLONG);
    remove(bytes(&top), &ON, reach).unwrap();
    assert!(!top.exists());
}

#[test]
fn a_tree_deeper_than_any_path_is_counted_and_deleted() {
    let base = Base::new("deep");
    nest(&base.0, 500);
    let TreeUsage { size, inodes } = tree_usage(bytes(&base.0), &ON).unwrap();
    assert_eq!(inodes, 1001);
    assert!(size >= 500 * 5000);
    let top = base.path(&"d".repeat(200));
    remove_tree(bytes(&top), &ON).unwrap();
    assert_eq!(fs::read_dir(&base.0).unwrap().count(), 0);
}

#[test]
fn what_is_not_there_is_fine_and_a_link_is_deleted_itself() {
    let base = Base::new("absent");
    let (kept, link) = (base.path("kept"), base.path("link"));
    fs::write(&kept, "x").unwrap();
    symlink(&base.0, &link).unwrap();
    for path in [base.path("no/such"), base.path("none"), link.clone()] {
        remove_tree(bytes(&path), &ON).unwrap();
    }
    assert!(fs::symlink_metadata(&link).is_err() && kept.exists());
    assert_eq!(tree_usage(bytes(&base.path("none")), &ON).unwrap(), TreeUsage::default());
    for path in ["", "..", "a/.", "a/.."] {
        assert_eq!(remove_tree(path.as_bytes(), &ON).unwrap_err().errno, libc::EINVAL, "{path}");
    }
}

#[test]
fn a_stopped_walk_ends_and_may_be_repeated() {
    let base = Base::new("stop");
    let top = base.path("top");
    grow(&top, 2, 2);
    let stop = AtomicBool::new(true);
    assert_eq!(tree_usage(bytes(&top), &stop).unwrap_err().errno, libc::ECANCELED);
    assert_eq!(remove_tree(bytes(&top), &stop).unwrap_err().errno, libc::ECANCELED);
    remove_tree(bytes(&top), &ON).unwrap();
    assert!(!top.exists());
}

fn exchange(one: &Path, other: &Path) {
    let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
}

/// The names in the directory that links lead to are also names in the directories that are exchanged for those links.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn fill(directory: &Path) {
    fs::create_dir(directory).unwrap();
    NAMES.iter().for_each(|name| drop(File::create(directory.join(name)).unwrap()));
}

/// Deletes trees with `delete` while another thread exchanges their directories for links to a directory outside, until
/// something is missing there or `rounds` are over. The number of rounds that left it whole.
fn race(base: &Base, rounds: u32, delete: impl Fn(&Path) -> Result<(), SysError>) -> u32 {
    let (top, outside) = (base.path("top"), base.path("outside"));
    fill(&outside);
    let pairs = [("dir", "link"), ("deep/dir", "deep/link")].map(|(one, other)| (top.join(one), top.join(other)));
    let (over, done) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                pairs.iter().for_each(|(one, other)| exchange(one, other));
            }
        });
        while done.load(Ordering::Relaxed) < rounds && is_whole(&outside) {
            fs::create_dir_all(top.join("deep")).unwrap();
            for (directory, link) in &pairs {
                fill(directory);
                symlink(&outside, link).unwrap();
            }
            let _ = delete(&top);
            // Whatever a racer does, the rest goes when it has stopped.
            remove_tree(bytes(&top), &ON).unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    });
    let lost = u32::from(!is_whole(&outside));
    done.load(Ordering::Relaxed) - lost
}

fn is_whole(outside: &Path) -> bool {
    NAMES.iter().all(|name| outside.join(name).exists())
}

#[test]
fn exchanging_directories_for_links_leads_a_removal_nowhere() {
    let base = Base::new("race");
    assert_eq!(race(&base, 3000, |top| remove_tree(bytes(top), &ON)), 3000);
}

/// Shows that the race above is one which a walk by path loses.
#[test]
fn a_removal_by_path_loses_that_race() {
    fn by_path(path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return fs::remove_file(path);
        }
        for entry in fs::read_dir(path)? {
            let _ = by_path(&entry?.path());
        }
        fs::remove_dir(path)
    }
    let base = Base::new("by-path");
    let failed = |error: io::Error| SysError::from_io("remove", "", &error);
    assert!(race(&base, 200_000, |top| by_path(top).map_err(failed)) < 200_000);
}

#[test]
fn moving_directories_about_harms_neither_a_count_nor_a_removal() {
    let base = Base::new("move");
    let top = base.path("top");
    let (low, high) = (top.join("d0/d0/d0/d0"), top.join("moved"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = fs::rename(&low, &high);
                let _ = fs::rename(&high, &low);
            }
        });
        for round in 0..200 {
            let reach = [REACH, Reach { open: 2, closed: 8 }][round % 2];
            grow_while_moved(&top);
            usage(bytes(&top), &ON, reach).unwrap();
            remove(bytes(&top), &ON, reach).unwrap();
            assert!(!top.exists());
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn grow_while_moved(top: &Path) {
    for path in ["d0/d0/d0/d0/d0/d0", "d0/d0/d0/d1", "d0/d1", "d1"] {
        let _ = fs::create_dir_all(top.join(path));
        let _ = fs::write(top.join(path).join("file"), "x");
    }
}

#[test]
fn a_directory_that_is_filled_again_is_given_up_and_deleted_later() {
    let base = Base::new("fill");
    let top = base.path("top");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        fs::create_dir(&top).unwrap();
        scope.spawn(|| {
            for i in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let _ = fs::create_dir_all(top.join(format!("d{}/x", i % 3)));
            }
        });
        for _ in 0..50 {
            let result = remove_tree(bytes(&top), &ON);
            assert!(
                matches!(result.as_ref().map_err(|error| error.errno), Ok(()) | Err(libc::ENOTEMPTY)),
                "{result:?}"
            );
        }
        over.store(true, Ordering::Relaxed);
    });
    remove_tree(bytes(&top), &ON).unwrap();
    assert!(!top.exists());
}
