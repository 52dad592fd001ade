//! Mounting through the new mount API: options go over one by one, so their sum is not limited to a page as with
//! mount(2), paths may hold commas, and the kernel's own explanation of a failure can be read.

use crate::error::{Result, SysError, c_string};
use rustix::fs::CWD;
use rustix::io::{Errno, read};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::fs;
use std::os::fd::OwnedFd;

/// Attributes of a mount.
pub const ATTR_RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub const ATTR_NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
pub const ATTR_NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub const ATTR_NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// A context's log is a ring of 8 messages (fs/fs_context.c).
const MAX_MESSAGES: usize = 8;
/// What errors say was being done.
const MOUNT: &str = "mount";
const OPTION: &str = "mount option";

/// What to mount where. `attributes` are `ATTR_*`.
pub struct Mount<'a> {
    pub fstype: &'a str,
    pub source: &'a str,
    pub target: &'a str,
    /// Each `key=value` or `key`.
    pub options: &'a [String],
    pub attributes: MountAttrFlags,
}

/// Mounts; the error carries the messages of the kernel's mount context.
pub fn mount(request: &Mount) -> Result<()> {
    let fstype = c_string("fsopen", request.fstype)?;
    let target = c_string("move_mount", request.target)?;
    let context =
        fsopen(&fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| SysError::of("fsopen", request.fstype, errno))?;
    configure(&context, request)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, request.attributes)
        .map_err(|errno| explained(&context, MOUNT, request.target, errno))?;
    move_mount(mounted, c"", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| SysError::of(MOUNT, request.target, errno))
}

fn configure(context: &OwnedFd, request: &Mount) -> Result<()> {
    set_string(context, "source", request.source)?;
    if request.attributes.contains(ATTR_RDONLY) {
        set_flag(context, "ro")?;
    }
    for option in request.options {
        match option.split_once('=') {
            Some((key, value)) => set_string(context, key, value)?,
            None => set_flag(context, option)?,
        }
    }
    fsconfig_create(context).map_err(|errno| explained(context, MOUNT, request.source, errno))
}

fn set_string(context: &OwnedFd, key: &str, value: &str) -> Result<()> {
    let (key_c, value_c) = (c_string(OPTION, key)?, c_string(OPTION, value)?);
    fsconfig_set_string(context, &key_c, &value_c)
        .map_err(|errno| explained(context, OPTION, &format!("{key}={value}"), errno))
}

fn set_flag(context: &OwnedFd, key: &str) -> Result<()> {
    fsconfig_set_flag(context, &c_string(OPTION, key)?).map_err(|errno| explained(context, OPTION, key, errno))
}

/// `errno` with the messages that the kernel left in the context.
fn explained(context: &OwnedFd, op: &'static str, subject: &str, errno: Errno) -> SysError {
    let mut messages = Vec::new();
    let mut buffer = [0u8; 1024];
    while messages.len() < MAX_MESSAGES {
        // It fails with ENODATA when no message is left.
        let Ok(length @ 1..) = read(context, &mut buffer) else { break };
        let text = String::from_utf8_lossy(&buffer[..length]);
        // Each starts with a letter for its severity: "e erofs: …".
        messages.push(text.split_once(' ').map_or(&*text, |(_, message)| message).trim().to_owned());
    }
    let detail = (!messages.is_empty()).then(|| messages.join("; "));
    SysError { detail, ..SysError::of(op, subject, errno) }
}

/// umount2(2); `flags` are its own.
pub fn umount(target: &str, flags: i32) -> Result<()> {
    let path = c_string("umount", target)?;
    unmount(&path, UnmountFlags::from_bits_retain(flags.cast_unsigned()))
        .map_err(|errno| SysError::of("umount", target, errno))
}

/// Whether something of type `fstype` is mounted exactly on `target`. Reads /proc/self/mountinfo, so it cannot hang
/// on a file system that does not answer.
pub fn is_mount_point(target: &str, fstype: &str) -> Result<bool> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = fs::read_to_string(TABLE).map_err(|e| SysError::from_io("read", TABLE, &e))?;
    Ok(table.lines().any(|line| {
        // proc(5): ID parent major:minor root MOUNTPOINT options … - FSTYPE source options
        let mut fields = line.split(' ');
        let point = fields.nth(4).unwrap_or("");
        let kind = fields.skip_while(|field| *field != "-").nth(1).unwrap_or("");
        kind == fstype && unescape(point) == target
    }))
}

/// Undoes the octal escapes of mountinfo (`\040` for a space).
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(code as char);
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\"), r"/plain\");
    }

    #[test]
    fn the_error_names_the_unknown_option() {
        let request = Mount {
            fstype: "tmpfs",
            source: "none",
            target: "/nowhere",
            options: &["lacuna_no_such_option=1".to_owned()],
            attributes: MountAttrFlags::empty(),
        };
        let Err(error) = mount(&request) else { panic!("must fail") };
        if error.errno == libc::EPERM {
            return; // not root
        }
        assert_eq!(error.errno, libc::EINVAL);
        assert!(error.to_string().contains("lacuna_no_such_option"), "{error}");
        assert!(error.detail.is_some(), "{error}");
    }

    #[test]
    fn proc_is_seen_as_mounted() {
        assert!(is_mount_point("/proc", "proc").unwrap());
        assert!(!is_mount_point("/proc", "fuse.lacuna").unwrap());
        assert!(!is_mount_point("/proc/self", "proc").unwrap());
    }
}
