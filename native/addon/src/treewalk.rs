//! Walks over trees that others may still write to, for TypeScript. The walks themselves are in `native/sys`. Each has a
//! thread of its own: a tree may be of any size.

use crate::error::{BridgeError, Code, Result, guarded};
use crate::sys::aside;
use crate::teardown::{Waits, wake_at_end};
use lacuna_sys::SysError;
use napi::bindgen_prelude::{Buffer, Env, PromiseRaw, ToNapiValue};
use napi_derive::napi;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

impl Waits for AtomicBool {
    fn wake(&self) {
        self.store(true, Ordering::Relaxed);
    }
}

/// See `TreeUsage` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct TreeUsage {
    pub size: f64,
    pub inodes: f64,
}

/// See `TreeWalk` in addon.ts.
#[napi]
pub struct TreeWalk {
    path: Vec<u8>,
    stop: Arc<AtomicBool>,
}

#[napi]
pub fn tree_walk(env: &Env, path: Buffer) -> Result<TreeWalk> {
    guarded(|| {
        let stop = Arc::<AtomicBool>::default();
        let weak: Weak<AtomicBool> = Arc::downgrade(&stop);
        wake_at_end(env, weak)?;
        Ok(TreeWalk { path: path.to_vec(), stop })
    })
}

#[napi]
impl TreeWalk {
    #[napi]
    pub fn usage<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, TreeUsage>> {
        self.run(env, |path, stop| {
            let lacuna_sys::TreeUsage { size, inodes } = lacuna_sys::tree_usage(path, stop)?;
            Ok(TreeUsage { size: size as f64, inodes: inodes as f64 })
        })
    }

    #[napi]
    pub fn remove<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, ()>> {
        self.run(env, lacuna_sys::remove_tree)
    }

    #[napi]
    pub fn stop(&self) -> Result<()> {
        guarded(|| {
            self.stop.wake();
            Ok(())
        })
    }

    fn run<'env, T, W>(&self, env: &'env Env, work: W) -> Result<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        W: FnOnce(&[u8], &AtomicBool) -> lacuna_sys::Result<T> + Send + 'static,
    {
        let (path, stop) = (self.path.clone(), Arc::clone(&self.stop));
        aside(env, move || {
            work(&path, &stop).map_err(|error| match stop.load(Ordering::Relaxed) {
                true => BridgeError::new(Code::Aborted, "aborted"),
                false => refusal(error),
            })
        })
    }
}

/// What a walk ran into, as a state of the tree.
fn refusal(error: SysError) -> BridgeError {
    let (code, reason) = match io::Error::from_raw_os_error(error.errno).kind() {
        io::ErrorKind::ResourceBusy => (Code::Precondition, "something is still mounted there"),
        io::ErrorKind::DirectoryNotEmpty => (Code::Precondition, "a process keeps writing there"),
        io::ErrorKind::InvalidFilename => (Code::Unsupported, "too many directories inside each other to be counted"),
        _ => return error.into(),
    };
    BridgeError::new(code, format!("{} {}: {reason}", error.op, error.subject))
}
