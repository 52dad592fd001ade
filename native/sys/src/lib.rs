//! The system calls that Node lacks: mounting, loop devices, file locks, descriptors over UNIX sockets, and
//! files made below a directory with all that a file has. No policy.

mod error;
mod fdpass;
mod lock;
mod loopdev;
mod mount;
mod treedir;

pub use error::{Result, SysError};
pub use fdpass::{recv_with_fd, send_with_fd};
pub use lock::{flock, try_lock};
pub use loopdev::{LoopDevice, loop_attach};
pub use mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount, is_mount_point, mount, umount};
pub use treedir::{Kind, TreeDir};
