//! The parts of the FUSE protocol that a read-only flat directory needs, as in include/uapi/linux/fuse.h.

/// `fuse_in_header`, `fuse_out_header`.
pub const IN_HEADER_SIZE: usize = 40;
pub const OUT_HEADER_SIZE: usize = 16;
pub const ROOT_ID: u64 = 1;
/// FUSE_UNIQUE_RESEND: set in `unique` of a request that is sent again, and to be set in its answer.
pub const UNIQUE_RESEND: u64 = 1 << 63;
/// `code` of a notification (`unique` 0) that asks for all unanswered requests again. Linux 6.9.
pub const NOTIFY_RESEND: i32 = 7;

/// `opcode`s.
pub mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const SETXATTR: u32 = 21;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const RENAME2: u32 = 45;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const TMPFILE: u32 = 51;
}

/// `flags` and `flags2` of INIT as one number.
pub mod init {
    pub const MAJOR: u32 = 7;
    /// What this file was written against; FUSE_HAS_RESEND came with it.
    pub const MINOR: u32 = 40;
    /// FUSE_MAX_PAGES and all structure sizes used here. Linux 4.20.
    pub const MIN_MINOR: u32 = 28;
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const INIT_EXT: u64 = 1 << 30;
    pub const HAS_RESEND: u64 = 1 << 39;
}

/// `open_flags` of OPEN: nothing is cached in front of the store, the EROFS above caches what it reads.
pub const FOPEN_DIRECT_IO: u32 = 1;

/// The header of a request.
#[derive(Clone, Copy, Debug)]
pub struct InHeader {
    pub opcode: u32,
    pub unique: u64,
    pub nodeid: u64,
}

/// A number out of a request; None beyond its end.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The header and the body of a request; None when its length is not that which the header says.
pub fn split_request(request: &[u8]) -> Option<(InHeader, &[u8])> {
    let body = request.get(IN_HEADER_SIZE..)?;
    if u32_at(request, 0)? as usize != request.len() {
        return None;
    }
    let header = InHeader { opcode: u32_at(request, 4)?, unique: u64_at(request, 8)?, nodeid: u64_at(request, 16)? };
    Some((header, body))
}

pub fn out_header(unique: u64, error: i32, body: usize) -> [u8; OUT_HEADER_SIZE] {
    let mut bytes = [0; OUT_HEADER_SIZE];
    // A reply is at most a header and 1 MiB.
    bytes[0..4].copy_from_slice(&((OUT_HEADER_SIZE + body) as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&error.to_ne_bytes());
    bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
    bytes
}

/// Builds the body of a reply, number by number.
#[derive(Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn u16(mut self, number: u16) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `fuse_attr` of a node: only root may look, nobody may write.
    pub fn attr(self, ino: u64, size: u64, directory: bool) -> Self {
        let (mode, nlink) = if directory { (libc::S_IFDIR | 0o500, 2) } else { (libc::S_IFREG | 0o400, 1) };
        let (blocks, times, owner) = (size / 512, 3 * 8 + 3 * 4, 2 * 4);
        self.u64(ino)
            .u64(size)
            .u64(blocks)
            .zeros(times)
            .u32(mode)
            .u32(nlink)
            .zeros(owner)
            .u32(0) // rdev
            .u32(4096) // blksize
            .u32(0) // flags
    }

    /// `fuse_dirent` with its name, padded to 8 bytes; false (and nothing added) when it would exceed `limit`.
    pub fn dirent(&mut self, limit: usize, ino: u64, next: u64, directory: bool, name: &[u8]) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() + length > limit {
            return false;
        }
        let kind = if directory { libc::DT_DIR } else { libc::DT_REG };
        let end = self.0.len() + length;
        self.0.extend_from_slice(&ino.to_ne_bytes());
        self.0.extend_from_slice(&next.to_ne_bytes());
        // Names have at most NAME_MAX bytes.
        self.0.extend_from_slice(&(name.len() as u32).to_ne_bytes());
        self.0.extend_from_slice(&u32::from(kind).to_ne_bytes());
        self.0.extend_from_slice(name);
        self.0.resize(end, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernel_s_sizes() {
        assert_eq!(Body::default().attr(2, 0, false).0.len(), 88);
        let mut body = Body::default();
        assert!(body.dirent(64, 1, 1, true, b"."));
        assert_eq!(body.0.len(), 32);
        assert!(body.dirent(64, 1, 1, true, b"12345678"));
        assert_eq!(body.0.len(), 64);
        assert!(!body.dirent(64, 1, 1, true, b"x"));
        assert_eq!(body.0.len(), 64);
    }

    #[test]
    fn short_and_long_requests_are_none() {
        let mut request = [0u8; 48];
        request[0..4].copy_from_slice(&48u32.to_ne_bytes());
        assert_eq!(split_request(&request).map(|(_, body)| body.len()), Some(8));
        assert!(split_request(&request[..40]).is_none());
        assert!(split_request(&request[..3]).is_none());
    }
}
