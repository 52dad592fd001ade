//! Who waits for which chunk. One demand per record of a blob, whoever's device it is in: whoever brings it wakes all.

use crate::device::{Carried, Device};
use crate::fs::{Channel, Errno};
use crate::sync::lock;
use crate::table::Record;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

/// A read, as it came and as it is answered.
pub struct Read {
    pub unique: u64,
    pub channel: Arc<dyn Channel>,
    pub device: Arc<Device>,
    pub range: Range<u64>,
    /// What it takes of the budget: the chunks that it came for.
    pub cost: usize,
    /// How many chunks it still waits for, and those it got that no store has.
    waiting: Mutex<(usize, Carried)>,
}

impl Read {
    pub fn new(
        unique: u64,
        channel: Arc<dyn Channel>,
        device: Arc<Device>,
        range: Range<u64>,
        cost: usize,
        carried: Carried,
    ) -> Read {
        Read { unique, channel, device, range, cost, waiting: Mutex::new((0, carried)) }
    }

    pub fn carried(&self) -> Carried {
        lock(&self.waiting).1.clone()
    }

    /// A chunk has come; true when it was the last one.
    fn arrived(&self, chunk: u32, bytes: Option<Arc<Vec<u8>>>) -> bool {
        let mut waiting = lock(&self.waiting);
        if let Some(bytes) = bytes {
            waiting.1.insert(chunk, bytes);
        }
        waiting.0 = waiting.0.saturating_sub(1);
        waiting.0 == 0
    }
}

struct Waiter {
    /// The table of parked reads owns them; one that was interrupted is gone.
    read: Weak<Read>,
    chunk: u32,
}

#[derive(Default)]
struct Demand {
    /// Handles of the devices that were asked to deliver. Each is, once: an image's readers do not depend on where another
    /// image gets its chunks from.
    asked: Vec<u32>,
    waiters: Vec<Waiter>,
}

#[derive(Default)]
pub struct Demands(Mutex<HashMap<Record, Demand>>);

impl Demands {
    /// Makes `read` wait for those of `chunks` that are still not there. Gives those that its device was not asked for yet,
    /// and whether it waits for any at all.
    pub fn join(&self, read: &Arc<Read>, chunks: &[u32]) -> Result<(Vec<u32>, bool), Errno> {
        let (device, content) = (&read.device, &read.device.content);
        let mut demands = lock(&self.0);
        if device.removed.load(Ordering::Acquire) {
            return Err(Errno(libc::EIO));
        }
        let mut waiting = lock(&read.waiting);
        let mut fresh = Vec::new();
        for &chunk in chunks {
            // Deliveries store first and look for waiters then, so under this lock nothing is missed.
            let Some(record) = content.table.get(chunk).filter(|record| !content.has(chunk, record)) else {
                continue;
            };
            let demand = demands.entry(*record).or_default();
            demand.push(Waiter { read: Arc::downgrade(read), chunk });
            if !demand.asked.contains(&device.handle) {
                demand.asked.push(device.handle);
                fresh.push(chunk);
            }
            waiting.0 += 1;
        }
        Ok((fresh, waiting.0 > 0))
    }

    /// Whether somebody waits for it.
    pub fn has(&self, record: &Record) -> bool {
        lock(&self.0).contains_key(record)
    }

    /// A chunk has come (`bytes` unless it was there already): gives the reads that now have all they waited for.
    pub fn deliver(&self, record: &Record, bytes: Option<&Arc<Vec<u8>>>) -> Vec<Arc<Read>> {
        let Some(demand) = lock(&self.0).remove(record) else { return Vec::new() };
        let mut complete = Vec::new();
        for (read, chunk) in demand.waiters.iter().filter_map(|waiter| Some((waiter.read.upgrade()?, waiter.chunk))) {
            let carry = bytes.filter(|_| !read.device.content.has(chunk, record)).cloned();
            if read.arrived(chunk, carry) {
                complete.push(read);
            }
        }
        complete
    }

    /// `device` gives `record` up: gives its reads, which are over. Other devices were asked for theirs.
    pub fn give_up(&self, device: &Device, record: &Record) -> Vec<Arc<Read>> {
        let mut demands = lock(&self.0);
        let Some(demand) = demands.get_mut(record) else { return Vec::new() };
        let mut over = Vec::new();
        demand.waiters.retain(|waiter| match waiter.read.upgrade() {
            Some(read) if read.device.handle == device.handle => {
                over.push(read);
                false
            }
            alive => alive.is_some(),
        });
        demand.asked.retain(|asked| *asked != device.handle);
        if demand.waiters.is_empty() {
            demands.remove(record);
        }
        over
    }

    /// Every record that somebody waits for.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.0).keys().copied().collect()
    }
}

impl Demand {
    fn push(&mut self, waiter: Waiter) {
        // Interrupted reads leave their waiters behind; swept now and then, so that they do not pile up.
        if self.waiters.len().is_power_of_two() {
            self.waiters.retain(|waiter| waiter.read.strong_count() > 0);
        }
        self.waiters.push(waiter);
    }
}
