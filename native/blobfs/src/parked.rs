//! The reads that wait, and the budget that bounds them.
//!
//! One FUSE session serves all images, and the kernel keeps a limited number of its requests under way. So reads of an
//! image whose registry is silent must not pile up until reads of other images, cached ones as well, wait behind them.

use crate::demand::Read;
use crate::fs::Channel;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Chunks that reads of all images may wait for at once; a read waits for one or more. Far below the number of requests
/// that the kernel keeps under way, so that reads from the cache always find room.
pub const MAX_WAITING: usize = 48 << 10;

/// A limit that many share and nobody exhausts: an image may hold as much as is left free. One greedy image gets half,
/// and n of them leave 1/(n+1) to the next (Choudhury and Hahne, "Dynamic queue length thresholds", 1998).
pub struct Budget {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

impl Budget {
    pub fn new(total: usize) -> Budget {
        Budget { free: total, held: HashMap::new() }
    }

    /// False when the image would hold more than is left free.
    fn take(&mut self, image: &Arc<str>, cost: usize) -> bool {
        let held = self.held.get(image).copied().unwrap_or(0);
        if held + cost > self.free {
            return false;
        }
        self.free -= cost;
        self.held.insert(image.clone(), held + cost);
        true
    }

    fn give_back(&mut self, image: &Arc<str>, cost: usize) {
        self.free += cost;
        if let Entry::Occupied(mut held) = self.held.entry(image.clone()) {
            *held.get_mut() -= cost;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// A parked read: the channel that it came by (its address) and its number there.
type Key = (usize, u64);

fn key(channel: &Arc<dyn Channel>, unique: u64) -> Key {
    (Arc::as_ptr(channel).cast::<()>().addr(), unique)
}

pub struct Parked {
    reads: HashMap<Key, Arc<Read>>,
    budget: Budget,
}

impl Parked {
    pub fn new(budget: Budget) -> Parked {
        Parked { reads: HashMap::new(), budget }
    }

    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// False when too much of its image waits already.
    pub fn insert(&mut self, read: &Arc<Read>) -> bool {
        let is_within = self.budget.take(&read.device.image, read.cost);
        if is_within && let Some(other) = self.reads.insert(key(&read.channel, read.unique), read.clone()) {
            self.budget.give_back(&other.device.image, other.cost);
        }
        is_within
    }

    /// Whoever takes a read out answers it, nobody else.
    pub fn remove(&mut self, read: &Arc<Read>) -> bool {
        let key = key(&read.channel, read.unique);
        let found = self.reads.get(&key).is_some_and(|found| Arc::ptr_eq(found, read));
        if found {
            self.reads.remove(&key);
            self.budget.give_back(&read.device.image, read.cost);
        }
        found
    }

    /// The same by number; false when there is none.
    pub fn remove_by_number(&mut self, channel: &Arc<dyn Channel>, unique: u64) -> bool {
        let found = self.reads.get(&key(channel, unique)).cloned();
        found.is_some_and(|read| self.remove(&read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_leaves_something_to_everybody() {
        let mut budget = Budget::new(64);
        let mut take_all = |image: &str| {
            let image: Arc<str> = image.into();
            (0..100).filter(|_| budget.take(&image, 1)).count()
        };
        assert_eq!(["a", "b", "c", "d"].map(&mut take_all), [32, 16, 8, 4]);
        assert_eq!(take_all("a"), 0);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut budget = Budget::new(10);
        let image: Arc<str> = "a".into();
        assert!(!budget.take(&image, 11));
        assert!(budget.take(&image, 5));
        assert!(!budget.take(&image, 1));
        budget.give_back(&image, 5);
        assert!(budget.held.is_empty());
        assert!(budget.take(&image, 5));
    }
}
