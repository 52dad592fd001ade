//! A tree as an input says it, counted and deleted by descriptor.

use crate::directory;
use lacuna_sys::TreeUsage;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Directories inside each other: the longest path that the kernel takes has 4095 bytes.
const MAX_DEPTH: usize = 1500;

/// Each byte makes something: the upper bits name it, the lower say what it is. What cannot be made is left out.
pub fn tree(data: &[u8]) {
    let (outside, top) = (directory().join("outside"), directory().join("top"));
    fs::write(&outside, "kept").expect("the temporary directory can be written to");
    fs::create_dir(&top).expect("the last input left nothing");
    grow(&top, &outside, data);
    let usage = lacuna_sys::tree_usage(bytes(&top), &AtomicBool::new(false)).expect("nobody changes it");
    assert_eq!(usage, count(&top, &mut HashSet::new()));
    lacuna_sys::remove_tree(bytes(&top), &AtomicBool::new(false)).expect("nobody changes it");
    assert!(!top.exists() && fs::read(&outside).is_ok_and(|content| content == b"kept"));
}

fn grow(top: &Path, outside: &Path, data: &[u8]) {
    let (mut at, mut depth) = (top.to_owned(), 0);
    let mut last: PathBuf = at.join("x");
    for &byte in data {
        let path = at.join(char::from(b'A' + (byte >> 3)).to_string());
        let _ = match byte & 7 {
            0 | 1 if depth < MAX_DEPTH => fs::create_dir(&path).map(|()| (at, depth) = (path, depth + 1)),
            2 if depth > 0 => {
                (_, depth) = (at.pop(), depth - 1);
                Ok(())
            }
            3 => make(&path, &vec![byte; usize::from(byte) * 64]).map(|()| last = path),
            4 => symlink(outside, &path),
            5 => symlink("..", &path),
            6 => fs::hard_link(&last, &path),
            _ => fs::rename(&last, &path).map(|()| last = path),
        };
    }
}

fn make(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::File::create_new(path)?.write_all(content)
}

/// By path, with a set of all inodes.
fn count(path: &Path, seen: &mut HashSet<u64>) -> TreeUsage {
    let stat = fs::symlink_metadata(path).expect("nobody changes it");
    if !seen.insert(stat.ino()) {
        return TreeUsage::default();
    }
    let mut sum = TreeUsage { size: stat.blocks() * 512, inodes: 1 };
    if stat.is_dir() {
        for entry in fs::read_dir(path).expect("nobody changes it") {
            let below = count(&entry.expect("nobody changes it").path(), seen);
            sum = TreeUsage { size: sum.size + below.size, inodes: sum.inodes + below.inodes };
        }
    }
    sum
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}
