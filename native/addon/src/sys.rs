//! Mounts, loop devices, locks and sockets for TypeScript. The calls themselves are in `native/sys`.
//!
//! What opens files or mounts has a thread of its own: a file may lie on the blob file system, and wait for a daemon
//! that the JavaScript thread is about to restart.

use crate::args;
use crate::error::{BridgeError, Code, Outcome, Result, guarded};
use crate::promise::{promise, promised, run_aside};
use lacuna_sys::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, MountAttrFlags, SysError};
use napi::bindgen_prelude::{Env, PromiseRaw, ToNapiValue};
use napi_derive::napi;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

impl From<SysError> for BridgeError {
    fn from(error: SysError) -> Self {
        let code = match io::Error::from_raw_os_error(error.errno).kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::PermissionDenied => Code::Forbidden,
            io::ErrorKind::Unsupported => Code::Unsupported,
            _ => Code::System,
        };
        Self::new(code, error.to_string()).with_errno(Some(error.errno))
    }
}

/// See `MountOptions` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct MountOptions {
    pub fstype: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
    pub readonly: bool,
    pub nosuid: bool,
    pub nodev: bool,
}

impl MountOptions {
    fn attributes(&self) -> MountAttrFlags {
        [(self.readonly, ATTR_RDONLY), (self.nosuid, ATTR_NOSUID), (self.nodev, ATTR_NODEV)]
            .into_iter()
            .filter_map(|(wanted, attribute)| wanted.then_some(attribute))
            .collect()
    }
}

#[napi]
pub fn mount<'env>(env: &'env Env, options: MountOptions) -> Result<PromiseRaw<'env, ()>> {
    aside(env, move || {
        Ok(lacuna_sys::mount(&lacuna_sys::Mount {
            fstype: &options.fstype,
            source: &options.source,
            target: &options.target,
            options: &options.options,
            attributes: options.attributes(),
        })?)
    })
}

#[napi]
pub fn umount<'env>(env: &'env Env, target: String, flags: f64) -> Result<PromiseRaw<'env, ()>> {
    aside(env, move || {
        let flags = args::integer("flags", flags, 0xf)?;
        // At most 15.
        Ok(lacuna_sys::umount(&target, flags as i32)?)
    })
}

/// A promise of what `work` gives on a thread of its own.
pub fn aside<'env, T, W>(env: &'env Env, work: W) -> Result<PromiseRaw<'env, T>>
where
    T: ToNapiValue + Send + 'static,
    W: FnOnce() -> Outcome<T> + Send + 'static,
{
    promised(env, || {
        let (job, promise) = promise(env, work)?;
        run_aside(job)?;
        Ok(promise)
    })
}

/// See `LoopDevice` in addon.ts.
#[napi]
pub struct LoopDevice {
    path: String,
    fd: Mutex<Option<OwnedFd>>,
}

#[napi]
impl LoopDevice {
    #[napi(getter)]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[napi]
    pub fn close(&self) -> Result<()> {
        guarded(|| {
            drop(self.fd.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
    }
}

#[napi]
pub fn loop_attach<'env>(env: &'env Env, path: String) -> Result<PromiseRaw<'env, LoopDevice>> {
    aside(env, move || {
        let device = lacuna_sys::loop_attach(&path)?;
        Ok(LoopDevice { path: device.path, fd: Mutex::new(Some(device.handle)) })
    })
}

#[napi]
pub fn flock(fd: f64) -> Result<bool> {
    guarded(|| {
        let fd = args::integer("fd", fd, i32::MAX as usize)?;
        // At most i32::MAX.
        lacuna_sys::flock(descriptor(fd as i32)).map_err(|error| match lacuna_sys::has_no_locks(&error) {
            true => BridgeError::new(Code::Unsupported, "the file system has no locks"),
            false => error.into(),
        })
    })
}

/// See `listenPrivate` in addon.ts. The descriptor goes to Node, which closes it.
#[napi]
pub fn listen_private(path: String) -> Result<i32> {
    guarded(|| Ok(lacuna_sys::listen_private(&path)?.into_raw_fd()))
}

/// See `Peer` in addon.ts.
#[napi(object)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
}

#[napi]
pub fn peer_of(socket: i32) -> Result<Peer> {
    guarded(|| {
        if socket < 0 {
            return Err(BridgeError::usage("socket: not a descriptor"));
        }
        let peer = lacuna_sys::peer_of(descriptor(socket))?;
        Ok(Peer { pid: peer.pid, uid: peer.uid })
    })
}

/// A descriptor of JavaScript's, not negative, for a call that JavaScript waits for.
fn descriptor<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: nothing of this thread closes it meanwhile; one that is not open gives EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
