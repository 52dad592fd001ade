//! Lists an EROFS image with the crate erofs-rs, a reader that shares no code with ours nor with the kernel.
//!
//! usage: erofs-rs-walk IMAGE DEVICE...
//!
//! One JSON object per path, in no particular order; every byte string is in hex:
//! {path, type, mode, uid, gid, size, sec, nsec, nlink, ino, major, minor, target, xattrs: {name: value}, sha256}

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use erofs_rs::EroFS;
use erofs_rs::backend::MmapImage;
use erofs_rs::types::Inode;
use sha2::{Digest, Sha256};

type Image = EroFS<MmapImage>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The file types' names, by the bits of stat(2).
fn type_of(inode: &Inode) -> &'static str {
    match inode.file_type().as_raw_mode() >> 12 {
        0o10 => "reg",
        0o04 => "dir",
        0o12 => "symlink",
        0o02 => "char",
        0o06 => "block",
        0o01 => "fifo",
        _ => "socket",
    }
}

fn print(
    out: &mut impl Write,
    image: &Image,
    path: &[u8],
    inode: Inode,
) -> Result<(), Box<dyn Error>> {
    let target = match inode.is_symlink() {
        true => hex(image.read_link_inode(inode)?.as_bytes()),
        false => String::new(),
    };
    let mut sha256 = String::new();
    if inode.is_file() {
        let mut hash = Sha256::new();
        io::copy(&mut image.open_inode_file(inode)?, &mut hash)?;
        sha256 = hex(&hash.finalize());
    }
    let xattrs: Vec<String> = image
        .xattrs_inode(inode)?
        .iter()
        .map(|(name, value)| format!("\"{}\":\"{}\"", hex(name), hex(value)))
        .collect();
    let (sec, nsec) = inode.modified_unix();
    let (major, minor) = inode.device().unwrap_or_default();
    writeln!(
        out,
        "{{\"path\":\"{}\",\"type\":\"{}\",\"mode\":{},\"uid\":{},\"gid\":{},\"size\":{},\"sec\":{sec},\"nsec\":{nsec},\
         \"nlink\":{},\"ino\":{},\"major\":{major},\"minor\":{minor},\"target\":\"{target}\",\"xattrs\":{{{}}},\
         \"sha256\":\"{sha256}\"}}",
        hex(path),
        type_of(&inode),
        inode.permissions().mode(),
        inode.uid(),
        inode.gid(),
        inode.data_size(),
        inode.nlink(),
        inode.id(),
        xattrs.join(","),
    )?;
    Ok(())
}

fn run(paths: &[String]) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    for path in paths {
        // SAFETY: the caller's files do not change while this runs.
        files.push(unsafe { MmapImage::new_from_path(path)? });
    }
    let devices = files.split_off(1);
    let image = EroFS::new_with_devices(files.remove(0), devices)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let root = image.get_inode(image.super_block().root_inode_id())?;
    print(&mut out, &image, b"/", root)?;
    for entry in image.walk_dir("/")? {
        let entry = entry?;
        let path = entry.dir_entry.path();
        print(&mut out, &image, path.as_bytes(), entry.inode)?;
    }
    out.flush()?;
    Ok(())
}

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: erofs-rs-walk IMAGE DEVICE...");
        std::process::exit(2);
    }
    if let Err(error) = run(&paths) {
        eprintln!("erofs-rs-walk: {error}");
        std::process::exit(1);
    }
}
