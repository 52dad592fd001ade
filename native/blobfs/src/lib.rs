//! Blob devices served over FUSE: a flat directory of read-only files whose chunks come when somebody reads them.
//!
//! * `table`, `units`, `map`, `store`: which chunks a device has, how they are stored, which of them are in the cache;
//! * `device`, `demand`, `parked`, `fs`: answering reads, waiting for chunks, receiving them;
//! * `abi`, `dispatch`: requests of the FUSE protocol, whatever transport they came by;
//! * `session`, `holder`, `pool`: the transport /dev/fuse, its survival of this process, and threads.
//!
//! No policy: what is fetched, from where and when is decided by whoever answers [`OnMiss`].

mod abi;
mod counters;
mod demand;
mod device;
mod dispatch;
mod error;
mod fs;
mod holder;
mod map;
mod parked;
mod pool;
mod session;
mod store;
mod sync;
mod table;
mod units;

pub use counters::Counters;
pub use error::{Error, Result};
pub use fs::{BlobFs, Channel, DeviceOptions, Errno, OnMiss};
pub use map::BootId;
pub use pool::Pool;
pub use session::{Session, SessionOptions};
