//! Mounting through the new mount API: options go over one by one, so their sum is not limited to a page as with
//! mount(2), paths may hold commas, and the kernel's own explanation of a failure can be read.

use crate::error::{Result, SysError, c_string};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Attributes of a mount (`MOUNT_ATTR_*` of linux/mount.h).
pub const ATTR_RDONLY: u64 = 0x1;
pub const ATTR_NOSUID: u64 = 0x2;
pub const ATTR_NODEV: u64 = 0x4;
pub const ATTR_NOEXEC: u64 = 0x8;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// A context's log is a ring of 8 messages (fs/fs_context.c).
const MAX_MESSAGES: usize = 8;

/// What to mount where. `attributes` are `ATTR_*`.
pub struct Mount<'a> {
    pub fstype: &'a str,
    pub source: &'a str,
    pub target: &'a str,
    /// Each `key=value` or `key`.
    pub options: &'a [String],
    pub attributes: u64,
}

/// Mounts; the error carries the messages of the kernel's mount context.
pub fn mount(request: &Mount) -> Result<()> {
    let fstype = c_string("fsopen", request.fstype)?;
    let target = c_string("move_mount", request.target)?;
    // SAFETY: a valid NUL-terminated string; the result is checked.
    let context = unsafe { owned(libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC)) }
        .ok_or_else(|| SysError::last("fsopen", request.fstype))?;
    configure(&context, request)?;
    // SAFETY: plain numbers.
    let mounted =
        unsafe { owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, request.attributes)) }
            .ok_or_else(|| explained(&context, "mount", request.target))?;
    // SAFETY: valid descriptors and strings.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if moved != 0 { Err(SysError::last("mount", request.target)) } else { Ok(()) }
}

fn configure(context: &OwnedFd, request: &Mount) -> Result<()> {
    set(context, FSCONFIG_SET_STRING, Some("source"), Some(request.source))?;
    if request.attributes & ATTR_RDONLY != 0 {
        set(context, FSCONFIG_SET_FLAG, Some("ro"), None)?;
    }
    for option in request.options {
        match option.split_once('=') {
            Some((key, value)) => set(context, FSCONFIG_SET_STRING, Some(key), Some(value))?,
            None => set(context, FSCONFIG_SET_FLAG, Some(option), None)?,
        }
    }
    set(context, FSCONFIG_CMD_CREATE, None, None).map_err(|error| SysError {
        op: "mount",
        subject: request.source.to_owned(),
        ..error
    })
}

fn set(context: &OwnedFd, command: libc::c_uint, key: Option<&str>, value: Option<&str>) -> Result<()> {
    const OP: &str = "mount option";
    let key_c = key.map(|key| c_string(OP, key)).transpose()?;
    let value_c = value.map(|value| c_string(OP, value)).transpose()?;
    let pointer = |text: &Option<std::ffi::CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: the strings outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(&key_c), pointer(&value_c), 0)
    };
    if done == 0 {
        return Ok(());
    }
    let subject = match (key, value) {
        (Some(key), Some(value)) => format!("{key}={value}"),
        (key, _) => key.unwrap_or("").to_owned(),
    };
    Err(explained(context, OP, &subject))
}

/// `errno` with the messages that the kernel left in the context.
fn explained(context: &OwnedFd, op: &'static str, subject: &str) -> SysError {
    let mut error = SysError::last(op, subject);
    let mut messages = Vec::new();
    let mut buffer = [0u8; 1024];
    while messages.len() < MAX_MESSAGES {
        // SAFETY: the buffer is ours and its length is given. The read fails with ENODATA when no message is left.
        let n = unsafe { libc::read(context.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Some(text) = usize::try_from(n).ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n)) else { break };
        let text = String::from_utf8_lossy(text);
        // Each starts with a letter for its severity: "e erofs: …".
        messages.push(text.split_once(' ').map_or(&*text, |(_, message)| message).trim().to_owned());
    }
    if !messages.is_empty() {
        error.detail = Some(messages.join("; "));
    }
    error
}

/// umount2(2); `flags` are its own.
pub fn umount(target: &str, flags: i32) -> Result<()> {
    let path = c_string("umount", target)?;
    // SAFETY: a valid NUL-terminated string.
    if unsafe { libc::umount2(path.as_ptr(), flags) } != 0 {
        return Err(SysError::last("umount", target));
    }
    Ok(())
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

/// A descriptor that a system call returned, or nothing when it failed.
///
/// SAFETY: `result` must be what a call that makes a descriptor returned.
unsafe fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: as above.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
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
            attributes: 0,
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
