//! What the file system counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the start; `waiting` is the present one. `BlobFsCounters` of addon.ts says what they mean.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub reads: u64,
    pub read_bytes: u64,
    pub hits: u64,
    pub misses: u64,
    pub resent: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub errors: u64,
    pub shed: u64,
    pub waiting: u64,
    pub reverified: u64,
    pub store_errors: u64,
}

#[derive(Default)]
pub struct Counts {
    pub reads: AtomicU64,
    pub read_bytes: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub resent: AtomicU64,
    pub delivered: AtomicU64,
    pub rejected: AtomicU64,
    pub errors: AtomicU64,
    pub shed: AtomicU64,
    pub reverified: AtomicU64,
    pub store_errors: AtomicU64,
}

pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counts {
    /// The numbers as they are now.
    pub fn read(&self, waiting: u64) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            reads: of(&self.reads),
            read_bytes: of(&self.read_bytes),
            hits: of(&self.hits),
            misses: of(&self.misses),
            resent: of(&self.resent),
            delivered: of(&self.delivered),
            rejected: of(&self.rejected),
            errors: of(&self.errors),
            shed: of(&self.shed),
            waiting,
            reverified: of(&self.reverified),
            store_errors: of(&self.store_errors),
        }
    }
}
