//! The transport /dev/fuse: threads that read requests from one descriptor, which the holder has as well.
//!
//! One descriptor, not a clone for each thread: when a process dies, the kernel ends all requests that were read through
//! a clone which nobody else holds.

use crate::abi::{IN_HEADER_SIZE, NOTIFY_RESEND, OUT_HEADER_SIZE, out_header};
use crate::dispatch::{can_continue, reply_error};
use crate::error::{Error, Result};
use crate::fs::{BlobFs, Channel, Errno};
use crate::holder::Holder;
use crate::pool::spawn;
use crate::sync::lock;
use lacuna_sys::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount, SysError, is_mount_point, mount, umount};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Under this name the holder keeps the descriptor.
const SLOT: &str = "fuse";
const FUSE_TYPE: &str = "fuse.lacuna";
/// Larger than any request: names and 4 KiB of writing at most. The kernel wants 8 KiB or more.
const REQUEST_SIZE: usize = 16 << 10;

pub struct SessionOptions<'a> {
    pub mountpoint: &'a str,
    pub holder_socket: &'a str,
    pub threads: usize,
}

/// One descriptor of /dev/fuse.
struct FuseChannel {
    fd: OwnedFd,
    holder: Holder,
    connected: AtomicBool,
}

pub struct Session {
    pub taken_over: bool,
    channel: Arc<FuseChannel>,
    stop: Arc<OwnedFd>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Session {
    /// Goes on with the session that the holder has, or begins one.
    pub fn start(options: &SessionOptions, fs: &Arc<BlobFs>) -> Result<Session> {
        let mountpoint = prepare_mountpoint(options.mountpoint)?;
        let holder = Holder::new(options.holder_socket);
        let held = holder.get(SLOT)?.filter(|held| is_connected(&held.fd));
        let taken_over = held.is_some();
        let fd = match held {
            Some(held) if !can_continue(&held.state) => {
                return Err(Error::Holder("the session that it keeps is of an incompatible version".to_owned()));
            }
            Some(held) => held.fd,
            None => begin(&holder, &mountpoint)?,
        };
        let channel = Arc::new(FuseChannel { fd, holder, connected: AtomicBool::new(true) });
        if taken_over {
            // Somebody may have unmounted it from here while an EROFS above still uses it.
            if !is_mount_point(&mountpoint, FUSE_TYPE)? {
                mount_at(&channel.fd, &mountpoint)?;
            }
            // Before our own threads take any, so that none is handled twice.
            channel.ask_to_resend()?;
        }
        let session = Session { taken_over, channel, stop: Arc::new(event()?), threads: Mutex::default() };
        for _ in 0..options.threads {
            let (channel, stop, fs) = (session.channel.clone(), session.stop.clone(), fs.clone());
            lock(&session.threads).push(spawn("lacuna-fuse", move || serve(&channel, &stop, &fs))?);
        }
        Ok(session)
    }

    /// False once the file system was unmounted or its connection aborted.
    pub fn is_connected(&self) -> bool {
        self.channel.connected.load(Ordering::Relaxed)
    }

    /// Ends the threads. Requests that wait stay unanswered, for a successor.
    pub fn stop(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes into an event descriptor that we own. It cannot fail: nobody counts it to its maximum.
        unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        for thread in lock(&self.threads).drain(..) {
            // Panics are caught within.
            let _ = thread.join();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The absolute path, the directory made when absent. Its own last component is not followed nor looked at: it may be
/// the mount of a process that is dead, and nobody would answer.
fn prepare_mountpoint(path: &str) -> Result<String> {
    let failed = |e: &io::Error| SysError::from_io("prepare mount point", path, e);
    let absolute = std::path::absolute(path).map_err(|e| failed(&e))?;
    match std::fs::create_dir(&absolute) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&error).into()),
        _ => {}
    }
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::Usage(format!("mountpoint: {path} has no name")));
    };
    let real: PathBuf = std::fs::canonicalize(parent).map_err(|e| failed(&e))?.join(name);
    utf8(&real)
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::Usage(format!("mountpoint: {path:?} is not UTF-8")))?;
    Ok(text.to_owned())
}

/// Whether a descriptor belongs to a session that is mounted and not aborted: what the holder has may be one that was
/// never mounted because its maker died in between.
fn is_connected(fd: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one valid structure.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 0 }
}

/// A new session: its descriptor goes to the holder first, so that it outlives us from the first request on.
fn begin(holder: &Holder, mountpoint: &str) -> Result<OwnedFd> {
    // What a dead session left mounted here can never be served again.
    while is_mount_point(mountpoint, FUSE_TYPE)? {
        umount(mountpoint, libc::MNT_DETACH)?;
    }
    let path = "/dev/fuse";
    let device = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let fd: OwnedFd = device.map_err(|e| SysError::from_io("open", path, &e))?.into();
    holder.put(SLOT, fd.as_fd())?;
    if let Err(error) = mount_at(&fd, mountpoint) {
        // Should this fail too: a successor finds it unmounted and replaces it.
        let _ = holder.remove(SLOT);
        return Err(error);
    }
    Ok(fd)
}

fn mount_at(fd: &OwnedFd, mountpoint: &str) -> Result<()> {
    let options = [
        format!("fd={}", fd.as_raw_fd()),
        "rootmode=40000".to_owned(),
        "user_id=0".to_owned(),
        "group_id=0".to_owned(),
        "allow_other".to_owned(),
        "default_permissions".to_owned(),
        "subtype=lacuna".to_owned(),
    ];
    let attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    Ok(mount(&Mount { fstype: "fuse", source: "lacuna", target: mountpoint, options: &options, attributes })?)
}

impl Channel for FuseChannel {
    fn send(&self, parts: &[IoSlice]) {
        let write = |parts: &[IoSlice]| {
            // SAFETY: IoSlice is iovec; at most two parts.
            unsafe { libc::writev(self.fd.as_raw_fd(), parts.as_ptr().cast(), parts.len() as i32) }
        };
        if write(parts) >= 0 {
            return;
        }
        match io::Error::last_os_error().raw_os_error() {
            // The asker was killed, or the session is over.
            Some(libc::ENOENT | libc::ENODEV | libc::EPERM) => {}
            // The kernel did not take the answer (out of memory, a fault in its reader's buffer): it must not wait for
            // another one. Whether that has got through does not matter any more.
            _ => {
                if let Some(unique) = parts.first().and_then(|header| crate::abi::u64_at(header, 8)) {
                    write(&[IoSlice::new(&out_header(unique, -libc::EIO, 0))]);
                }
            }
        }
    }

    fn agreed(&self, state: &[u8]) {
        // A successor can do without: a session without state is one whose INIT is still to be answered, and if that
        // does not come, none was needed.
        let _ = self.holder.set_state(SLOT, state);
    }
}

impl FuseChannel {
    /// Has the kernel send again what a dead process read and did not answer.
    fn ask_to_resend(&self) -> Result<()> {
        let message = out_header(0, NOTIFY_RESEND, 0);
        // SAFETY: the message is alive.
        let written = unsafe { libc::write(self.fd.as_raw_fd(), message.as_ptr().cast(), OUT_HEADER_SIZE) };
        if written >= 0 {
            return Ok(());
        }
        let error = SysError::last("resend requests", "/dev/fuse");
        match error.errno {
            // Before Linux 6.9: what was in flight stays so until its reader is killed; all else goes on.
            libc::EINVAL => Ok(()),
            _ => Err(error.into()),
        }
    }
}

fn event() -> Result<OwnedFd> {
    // SAFETY: plain numbers; the result is checked.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(SysError::last("make", "eventfd").into());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One thread: reads a request, handles it, until told to stop or the session ends.
fn serve(channel: &Arc<FuseChannel>, stop: &OwnedFd, fs: &BlobFs) {
    let Ok(waiter) = Waiter::new(&channel.fd, stop) else {
        channel.connected.store(false, Ordering::Relaxed);
        return;
    };
    let sink: Arc<dyn Channel> = channel.clone();
    let mut buffer = vec![0u8; REQUEST_SIZE];
    loop {
        // SAFETY: the buffer is ours and its length is given.
        let n = unsafe { libc::read(channel.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let request = match usize::try_from(n) {
            Ok(n) => buffer.get(..n).unwrap_or(&[]),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN) => {
                    if waiter.wait() {
                        return;
                    }
                    continue;
                }
                // Interrupted, or its asker was killed before we had it.
                Some(libc::EINTR | libc::ENOENT) => continue,
                // ENODEV: unmounted or aborted. Anything else is not meant to happen and would not stop happening.
                _ => {
                    channel.connected.store(false, Ordering::Relaxed);
                    return;
                }
            },
        };
        if catch_unwind(AssertUnwindSafe(|| fs.handle(request, &sink))).is_err()
            && let Some((header, _)) = crate::abi::split_request(request)
        {
            reply_error(&*sink, header.unique, Errno(libc::EIO));
        }
    }
}

/// Waits for a request or the order to stop. Each thread has its own epoll, so that one request wakes one thread.
struct Waiter(OwnedFd);

const STOP: u64 = 1;

impl Waiter {
    fn new(fuse: &OwnedFd, stop: &OwnedFd) -> io::Result<Waiter> {
        // SAFETY: plain numbers; the result is checked.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let waiter = Waiter(unsafe { OwnedFd::from_raw_fd(epoll) });
        for (fd, events, data) in [(fuse, libc::EPOLLIN | libc::EPOLLEXCLUSIVE, 0), (stop, libc::EPOLLIN, STOP)] {
            let mut event = libc::epoll_event { events: events as u32, u64: data };
            // SAFETY: valid descriptors and a valid structure.
            let added =
                unsafe { libc::epoll_ctl(waiter.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
            if added != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(waiter)
    }

    /// True when the thread is to stop.
    fn wait(&self) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
        // SAFETY: room for two events. An interruption gives −1: no event, and the caller tries to read again.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 2, -1) };
        events.iter().take(usize::try_from(n).unwrap_or(0)).any(|event| event.u64 == STOP)
    }
}

const _: () = assert!(REQUEST_SIZE >= 8192 && REQUEST_SIZE > IN_HEADER_SIZE + 40 + 4096);
