//! Files of a tree below a directory, for TypeScript. The calls themselves are in `native/sys`: short ones, so they run on
//! the JavaScript thread.

use crate::args;
use crate::error::{BridgeError, Outcome, Result, guarded};
use lacuna_sys::Kind;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use std::sync::{Mutex, PoisonError};

/// See `TreeDir` in addon.ts.
#[napi]
pub struct TreeDir {
    tree: Mutex<Option<lacuna_sys::TreeDir>>,
}

#[napi]
pub fn tree_dir(path: Buffer) -> Result<TreeDir> {
    guarded(|| Ok(TreeDir { tree: Mutex::new(Some(lacuna_sys::TreeDir::open(&path)?)) }))
}

#[napi]
impl TreeDir {
    #[napi]
    pub fn directory(&self, path: Buffer) -> Result<()> {
        self.with(|tree| Ok(tree.create(&path, &Kind::Directory)?))
    }

    #[napi]
    pub fn symlink(&self, path: Buffer, target: Buffer) -> Result<()> {
        self.with(|tree| Ok(tree.create(&path, &Kind::Symlink(&target))?))
    }

    #[napi]
    pub fn node(&self, path: Buffer, kind: String, major: f64, minor: f64) -> Result<()> {
        self.with(|tree| {
            let (major, minor) = (number("major", major)?, number("minor", minor)?);
            let kind = match kind.as_str() {
                "char" => Kind::Char(major, minor),
                "block" => Kind::Block(major, minor),
                "fifo" => Kind::Fifo,
                "socket" => Kind::Socket,
                _ => return Err(BridgeError::usage(format!("kind: {kind} is no special file"))),
            };
            Ok(tree.create(&path, &kind)?)
        })
    }

    #[napi]
    pub fn file(&self, path: Buffer) -> Result<i32> {
        self.with(|tree| Ok(tree.file(&path)?))
    }

    #[napi]
    pub fn open_file(&self, path: Buffer) -> Result<Option<i32>> {
        self.with(|tree| Ok(tree.open_file(&path)?))
    }

    #[napi]
    pub fn link(&self, existing: Buffer, path: Buffer) -> Result<()> {
        self.with(|tree| Ok(tree.link(&existing, &path)?))
    }

    #[napi]
    pub fn chown(&self, path: Buffer, uid: f64, gid: f64) -> Result<()> {
        self.with(|tree| Ok(tree.chown(&path, number("uid", uid)?, number("gid", gid)?)?))
    }

    #[napi]
    pub fn chmod(&self, path: Buffer, mode: f64) -> Result<()> {
        self.with(|tree| Ok(tree.chmod(&path, args::integer("mode", mode, 0o7777)? as u32)?))
    }

    #[napi]
    pub fn set_mtime(&self, path: Buffer, sec: i64, nsec: f64) -> Result<()> {
        self.with(|tree| Ok(tree.set_mtime(&path, sec, args::integer("nsec", nsec, 999_999_999)? as u32)?))
    }

    #[napi]
    pub fn set_xattr(&self, path: Buffer, name: Buffer, value: Buffer) -> Result<()> {
        self.with(|tree| Ok(tree.set_xattr(&path, &name, &value)?))
    }

    #[napi]
    pub fn close(&self) -> Result<()> {
        guarded(|| {
            drop(self.tree.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut lacuna_sys::TreeDir) -> Outcome<T>) -> Result<T> {
        guarded(|| match self.tree.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(tree) => work(tree),
            None => Err(BridgeError::usage("the directory is closed")),
        })
    }
}

/// A number of the kernel's with 32 bits.
fn number(name: &str, value: f64) -> Outcome<u32> {
    // At most u32::MAX.
    Ok(args::integer(name, value, u32::MAX as usize)? as u32)
}
