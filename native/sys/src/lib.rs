//! The system calls that Node lacks: mounting, loop devices, file locks, private UNIX sockets and descriptors over them,
//! files made below a directory with all that a file has, trees counted and deleted by descriptor; and lookups of host
//! names that block nobody else. No policy.

mod beneath;
mod error;
mod fdpass;
mod listing;
mod lock;
mod loopdev;
mod mount;
mod remove;
mod resolve;
mod treedir;
mod unix_socket;
mod usage;
mod walk;
#[cfg(test)]
mod walk_tests;

pub use error::{Result, SysError};
pub use fdpass::{recv_with_fd, send_with_fd};
pub use lock::{flock, has_no_locks, try_lock};
pub use loopdev::{LoopDevice, loop_attach};
pub use mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount, is_mount_point, mount, umount};
pub use remove::remove_tree;
pub use resolve::resolve;
pub use rustix::mount::MountAttrFlags;
pub use treedir::{Kind, TreeDir};
pub use unix_socket::{Peer, listen_private, peer_of};
pub use usage::{TreeUsage, tree_usage};
