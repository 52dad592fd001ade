//! Loop devices: read-only, gone by themselves when the last user goes.

use crate::error::{Result, SysError};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};

/// linux/loop.h
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_NAME_SIZE: usize = 64;
/// Somebody else may take the free device before us; each round is another device or a retry of one being torn down.
const ATTEMPTS: usize = 64;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// An attached loop device. Closing `handle` lets it go once no mount uses it either (autoclear).
pub struct LoopDevice {
    pub path: String,
    pub handle: OwnedFd,
}

/// Attaches the file at `path` read-only to a free loop device.
pub fn loop_attach(path: &str) -> Result<LoopDevice> {
    let open = |path: &str| File::open(path).map_err(|e| SysError::from_io("open", path, &e));
    let backing = open(path)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|e| SysError::from_io("open", "/dev/loop-control", &e))?;
    let mut busy = SysError::new("attach loop device", path, libc::EBUSY);
    for _ in 0..ATTEMPTS {
        // SAFETY: takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(SysError::last("get a free loop device for", path));
        }
        let device_path = format!("/dev/loop{number}");
        let device = open(&device_path)?;
        let config = configuration(&backing, path);
        // SAFETY: the structure is laid out as loop_config of linux/loop.h and outlives the call.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) } == 0 {
            return Ok(LoopDevice { path: device_path, handle: device.into() });
        }
        busy = SysError::last("attach loop device", path);
        if busy.errno != libc::EBUSY && busy.errno != libc::EINTR {
            return Err(busy);
        }
    }
    Err(busy)
}

fn configuration(backing: &File, path: &str) -> LoopConfig {
    let mut file_name = [0u8; LO_NAME_SIZE];
    for (to, from) in file_name.iter_mut().take(LO_NAME_SIZE - 1).zip(path.bytes()) {
        *to = from;
    }
    LoopConfig {
        // A descriptor is never negative.
        fd: backing.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name,
            crypt_name: [0; LO_NAME_SIZE],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_missing_file_is_named() {
        let Err(error) = loop_attach("/no/such/image") else { panic!("must fail") };
        assert_eq!(error.errno, libc::ENOENT);
        assert!(error.to_string().contains("/no/such/image"));
    }
}
