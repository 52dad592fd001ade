//! Requests of the FUSE protocol, whatever transport they came by.
//!
//! Stateless: devices keep their node ids from process to process, file handles are 0, nothing is counted or remembered
//! for a node. So a new process answers for nodes and files that the kernel has from a dead one.

use crate::abi::{self, Body, FOPEN_DIRECT_IO, InHeader, ROOT_ID, UNIQUE_RESEND, init, op};
use crate::counters::count;
use crate::device::Device;
use crate::fs::{BlobFs, Channel, Devices, Errno, MAX_READ};
use crate::parked::MAX_WAITING;
use crate::sync::{lock, read};
use std::io::IoSlice;
use std::sync::{Arc, Mutex};

/// Requests parked for devices that are still to be attached; above it they fail. More threads than that do not wait.
const MAX_EARLY: usize = 1 << 16;
/// Attributes of a device never change, nor do those of the root. Long, so that a look at the mount point does not have
/// to wait for a process that is just being replaced.
const ATTR_VALID: u64 = 3600;
/// A removed device's name is gone after this many seconds.
const ENTRY_VALID: u64 = 1;
/// Requests that the kernel keeps under way at once, beyond which the next ones wait in it, whoever's they are. EROFS reads
/// its devices by such requests. The most that the protocol can say: all that wait for chunks leave a quarter of it.
const MAX_BACKGROUND: u16 = u16::MAX;
const CONGESTION: u16 = u16::MAX;
/// We are never written to; the least that the kernel accepts.
const MAX_WRITE: u32 = 4096;
const PAGE_SIZE: usize = 4096;

struct EarlyRequest {
    request: Vec<u8>,
    channel: Arc<dyn Channel>,
}

/// Requests for unknown devices that came before all devices were attached; None when they are.
pub(crate) struct Early(Mutex<Option<Vec<EarlyRequest>>>);

impl Default for Early {
    fn default() -> Self {
        Early(Mutex::new(Some(Vec::new())))
    }
}

/// What a request is answered with.
enum Answer {
    Body(Body),
    Error(i32),
    /// By somebody else, later, or not at all.
    None,
}

pub(crate) fn reply(channel: &dyn Channel, unique: u64, body: &[u8]) {
    channel.send(&[IoSlice::new(&abi::out_header(unique, 0, body.len())), IoSlice::new(body)]);
}

pub(crate) fn reply_error(channel: &dyn Channel, unique: u64, errno: Errno) {
    channel.send(&[IoSlice::new(&abi::out_header(unique, -errno.0, 0))]);
}

impl BlobFs {
    /// Handles one request; its answer goes to `channel`, from this thread or from one that delivers a chunk.
    pub fn handle(&self, request: &[u8], channel: &Arc<dyn Channel>) {
        // Without a whole header there is nobody to answer to.
        let Some((header, body)) = abi::split_request(request) else { return };
        if header.unique & UNIQUE_RESEND != 0 {
            count(&self.counts.resent, 1);
        }
        match self.dispatch(&header, body, request, channel) {
            Answer::Body(body) => reply(&**channel, header.unique, &body.0),
            Answer::Error(errno) if header.opcode == op::READ => self.refuse(channel, header.unique, Errno(errno)),
            Answer::Error(errno) => reply_error(&**channel, header.unique, Errno(errno)),
            Answer::None => {}
        }
    }

    fn dispatch(&self, header: &InHeader, body: &[u8], request: &[u8], channel: &Arc<dyn Channel>) -> Answer {
        let by_node = |devices: &Devices| devices.by_node.get(&header.nodeid).cloned();
        match header.opcode {
            op::INIT => negotiate(body, &**channel),
            op::DESTROY | op::RELEASE | op::RELEASEDIR => Answer::Body(Body::default()),
            op::FORGET | op::BATCH_FORGET => Answer::None,
            op::INTERRUPT => self.interrupted(body, channel),
            op::STATFS => Answer::Body(Body::default().zeros(40).u32(4096).u32(255).u32(4096).zeros(28)),
            op::LOOKUP if header.nodeid == ROOT_ID => {
                let name = body.strip_suffix(&[0]).unwrap_or(body);
                let Ok(name) = std::str::from_utf8(name) else { return Answer::Error(libc::ENOENT) };
                let find = |devices: &Devices| devices.by_name.get(name).cloned();
                self.with_device(find, request, channel, libc::ENOENT, |device| entry(device))
            }
            op::GETATTR if header.nodeid == ROOT_ID => attributes(ROOT_ID, 0, true),
            op::GETATTR => self.with_device(by_node, request, channel, libc::ESTALE, |device| {
                attributes(device.node, device.content.size, false)
            }),
            op::OPENDIR if header.nodeid == ROOT_ID => Answer::Body(Body::default().zeros(16)),
            op::READDIR if header.nodeid == ROOT_ID => self.list(body),
            op::LOOKUP | op::OPENDIR | op::READDIR => Answer::Error(libc::ENOTDIR),
            op::OPEN => match abi::u32_at(body, 0) {
                None => Answer::Error(libc::EINVAL),
                Some(flags) if flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 => Answer::Error(libc::EROFS),
                Some(_) => self.with_device(by_node, request, channel, libc::ESTALE, |_| {
                    Answer::Body(Body::default().u64(0).u32(FOPEN_DIRECT_IO).u32(0))
                }),
            },
            op::READ => {
                let (Some(offset), Some(size)) = (abi::u64_at(body, 8), abi::u32_at(body, 16)) else {
                    return Answer::Error(libc::EINVAL);
                };
                let size = size as usize;
                if size > MAX_READ {
                    return Answer::Error(libc::EINVAL);
                }
                self.with_device(by_node, request, channel, libc::EIO, |device| {
                    self.read(header.unique, channel, device, offset, size);
                    Answer::None
                })
            }
            op::SETATTR
            | op::SYMLINK
            | op::MKNOD
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::RENAME2
            | op::LINK
            | op::WRITE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::CREATE
            | op::FALLOCATE
            | op::COPY_FILE_RANGE
            | op::TMPFILE => Answer::Error(libc::EROFS),
            // FLUSH, ACCESS, GETXATTR, LSEEK, READDIRPLUS, … : the kernel does without and does not ask again.
            _ => Answer::Error(libc::ENOSYS),
        }
    }

    /// Answers for a device. Before all devices are attached an unknown one is waited for.
    fn with_device(
        &self,
        find: impl Fn(&Devices) -> Option<Arc<Device>>,
        request: &[u8],
        channel: &Arc<dyn Channel>,
        unknown: i32,
        answer: impl FnOnce(&Arc<Device>) -> Answer,
    ) -> Answer {
        let find = || find(&read(&self.devices));
        if let Some(device) = find() {
            return answer(&device);
        }
        if let Some(early) = &mut *lock(&self.early.0) {
            // Attached since: its adder may have been through the list already.
            match find() {
                None if early.len() < MAX_EARLY => {
                    early.push(EarlyRequest { request: request.to_vec(), channel: channel.clone() });
                    return Answer::None;
                }
                None => return Answer::Error(unknown),
                Some(_) => {}
            }
        }
        // Attached between the first look and the end of attaching, or unknown.
        match find() {
            Some(device) => answer(&device),
            None => Answer::Error(unknown),
        }
    }

    /// Handles again what waited for a device: a device has come.
    pub(crate) fn retry_early(&self) {
        let waiting = lock(&self.early.0).as_mut().map(std::mem::take);
        self.handle_all(waiting);
    }

    /// All devices are attached: from now on a request for an unknown one fails.
    pub fn ready(&self) {
        let waiting = lock(&self.early.0).take();
        self.handle_all(waiting);
    }

    fn handle_all(&self, requests: Option<Vec<EarlyRequest>>) {
        for EarlyRequest { request, channel } in requests.into_iter().flatten() {
            if let Some((header, body)) = abi::split_request(&request) {
                match self.dispatch(&header, body, &request, &channel) {
                    Answer::Body(body) => reply(&*channel, header.unique, &body.0),
                    Answer::Error(errno) => reply_error(&*channel, header.unique, Errno(errno)),
                    Answer::None => {}
                }
            }
        }
    }

    /// INTERRUPT: a waiting request ends. One that is being answered just now is left alone; EAGAIN has the kernel ask
    /// again if it is still unanswered then (it may have been about to wait).
    fn interrupted(&self, body: &[u8], channel: &Arc<dyn Channel>) -> Answer {
        let Some(unique) = abi::u64_at(body, 0) else { return Answer::Error(libc::EINVAL) };
        let mut early = false;
        if let Some(waiting) = &mut *lock(&self.early.0) {
            waiting.retain(|waiting| {
                let is_it = Arc::ptr_eq(&waiting.channel, channel)
                    && abi::split_request(&waiting.request).is_some_and(|(header, _)| header.unique == unique);
                early |= is_it;
                !is_it
            });
        }
        if early {
            reply_error(&**channel, unique, Errno(libc::EINTR));
        }
        if early || self.interrupt(channel, unique) { Answer::None } else { Answer::Error(libc::EAGAIN) }
    }

    /// READDIR. Offsets are node ids, so a listing goes on rightly while devices come and go.
    fn list(&self, body: &[u8]) -> Answer {
        let (Some(offset), Some(limit)) = (abi::u64_at(body, 8), abi::u32_at(body, 16)) else {
            return Answer::Error(libc::EINVAL);
        };
        let limit = (limit as usize).min(MAX_READ);
        let mut entries = Body::default();
        for (next, name) in [(1, "."), (2, "..")] {
            if offset < next && !entries.dirent(limit, ROOT_ID, next, true, name.as_bytes()) {
                return Answer::Body(entries);
            }
        }
        let devices = read(&self.devices);
        for (node, device) in devices.by_node.range(offset.saturating_add(1)..) {
            if !entries.dirent(limit, *node, *node, false, device.name.as_bytes()) {
                break;
            }
        }
        Answer::Body(entries)
    }
}

/// `fuse_entry_out`
fn entry(device: &Device) -> Answer {
    let body = Body::default().u64(device.node).u64(0).u64(ENTRY_VALID).u64(ATTR_VALID).u32(0).u32(0);
    Answer::Body(body.attr(device.node, device.content.size, false))
}

/// `fuse_attr_out`
fn attributes(node: u64, size: u64, directory: bool) -> Answer {
    Answer::Body(Body::default().u64(ATTR_VALID).u32(0).u32(0).attr(node, size, directory))
}

/// INIT: takes of what the kernel offers what is used here.
fn negotiate(body: &[u8], channel: &dyn Channel) -> Answer {
    let (Some(major), Some(minor), Some(read_ahead), Some(offered)) =
        (abi::u32_at(body, 0), abi::u32_at(body, 4), abi::u32_at(body, 8), abi::u32_at(body, 12))
    else {
        return Answer::Error(libc::EINVAL);
    };
    if major != init::MAJOR || minor < init::MIN_MINOR {
        return Answer::Error(libc::EPROTO);
    }
    let mut offered = u64::from(offered);
    if offered & init::INIT_EXT != 0 {
        offered |= u64::from(abi::u32_at(body, 16).unwrap_or(0)) << 32;
    }
    let wanted = init::ASYNC_READ
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::INIT_EXT
        | init::HAS_RESEND;
    let flags = wanted & offered;
    channel.agreed(&agreement(minor, flags));
    let answer = Body::default()
        .u32(init::MAJOR)
        .u32(init::MINOR.min(minor))
        .u32(read_ahead)
        .u32(flags as u32) // the lower half; the upper one is flags2
        .u16(MAX_BACKGROUND)
        .u16(CONGESTION)
        .u32(MAX_WRITE)
        .u32(1) // time_gran
        .u16((MAX_READ / PAGE_SIZE) as u16) // max_pages
        .u16(0) // map_alignment
        .u32((flags >> 32) as u32)
        .zeros(28);
    Answer::Body(answer)
}

/// What a successor should know: version of this state, protocol minor, flags.
fn agreement(minor: u32, flags: u64) -> [u8; 16] {
    let mut state = [0; 16];
    state[0..4].copy_from_slice(&1u32.to_le_bytes());
    state[4..8].copy_from_slice(&minor.to_le_bytes());
    state[8..16].copy_from_slice(&flags.to_le_bytes());
    state
}

/// Whether a process of this version can go on with a session that agreed so; nothing agreed yet is fine too.
pub(crate) fn can_continue(state: &[u8]) -> bool {
    state.is_empty() || (state.len() == 16 && state[0..4] == 1u32.to_le_bytes())
}

const _: () = assert!(MAX_WAITING <= (MAX_BACKGROUND as usize + 1) / 4 * 3);

#[cfg(test)]
mod tests;
