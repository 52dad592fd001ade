//! The system calls that Node lacks: mounting, loop devices, file locks, private UNIX sockets and descriptors over them, and
//! files made below a directory with all that a file has. No policy.

mod error;
mod fdpass;
mod lock;
mod loopdev;
mod mount;
mod treedir;
mod unix_socket;

pub use error::{Result, SysError};
pub use fdpass::{recv_with_fd, send_with_fd};
pub use lock::try_lock;
pub use loopdev::{LoopDevice, loop_attach};
pub use mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount, is_mount_point, mount, umount};
pub use treedir::{Kind, TreeDir};
pub use unix_socket::{Peer, listen_private, peer_of};
