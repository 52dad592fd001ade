//! A device: a file whose bytes are chunks, gaps between them and zeros. Each image has devices of its own, so that its
//! readers, and all that is done for them, can be told from another image's.

use crate::demand::Demands;
use crate::store::{Kept, Presence, Store};
use crate::table::{Record, Table};
use crate::units::Units;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// A store and who waits for chunks of it. Devices of one blob share it; a device's own store is one that nobody shares.
pub struct Blob {
    pub store: Store,
    pub demands: Demands,
}

/// Where a chunk of a device is, as far as the device has found out.
const UNKNOWN: u8 = 0;
const SHARED: u8 = 1;
const OWN: u8 = 2;

/// Decoded chunks that a read brings along because no store has them (the disk is full, another device's store has them).
pub type Carried = HashMap<u32, Arc<Vec<u8>>>;

pub struct Device {
    pub handle: u32,
    pub name: String,
    /// The kernel's number of the file, the same in every process: the kernel goes on using those that a dead one gave out.
    pub node: u64,
    /// Whose device it is: budgets are held by images.
    pub image: Arc<str>,
    pub content: Arc<Content>,
    /// Set before its waiters are sent away, so that none comes after.
    pub removed: AtomicBool,
}

/// What a device serves. Devices of images whose tables agree share it.
pub struct Content {
    pub size: u64,
    pub table: Table,
    /// None when every chunk is stored alone.
    pub units: Option<Units>,
    pub blob: Arc<Blob>,
    pub own: Arc<Blob>,
    places: Box<[AtomicU8]>,
}

impl Content {
    pub fn new(size: u64, table: Table, units: Option<Units>, [blob, own]: [Arc<Blob>; 2]) -> Content {
        let places = (0..table.len()).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Content { size, table, units, blob, own, places }
    }

    /// Whether both serve the same chunks out of the same stores.
    pub fn agrees(&self, other: &Content) -> bool {
        let stores = Arc::ptr_eq(&self.blob, &other.blob) && Arc::ptr_eq(&self.own, &other.own);
        stores && self.size == other.size && self.table == other.table && self.units == other.units
    }

    fn stores(&self) -> [(u8, &Store); 2] {
        [(SHARED, &self.blob.store), (OWN, &self.own.store)]
    }

    fn place(&self, chunk: u32) -> u8 {
        self.places.get(chunk as usize).map_or(UNKNOWN, |place| place.load(Ordering::Acquire))
    }

    fn set_place(&self, chunk: u32, to: u8) {
        if let Some(place) = self.places.get(chunk as usize) {
            place.store(to, Ordering::Release);
        }
    }

    /// What the stores say of a chunk, without I/O.
    pub fn presence(&self, chunk: u32, record: &Record) -> Presence {
        if self.place(chunk) != UNKNOWN {
            return Presence::Present;
        }
        let mut best = Presence::Absent;
        for (place, store) in self.stores() {
            match store.presence(record) {
                Presence::Present => {
                    self.set_place(chunk, place);
                    return Presence::Present;
                }
                Presence::Unverified => best = Presence::Unverified,
                Presence::Absent => {}
            }
        }
        best
    }

    /// Whether the chunk can be read now, without I/O.
    pub fn has(&self, chunk: u32, record: &Record) -> bool {
        self.presence(chunk, record) == Presence::Present
    }

    /// Whether the chunk can be read now. Verifies what an earlier boot left, counting into `reverified`.
    fn is_ready(&self, chunk: u32, record: &Record, reverified: &mut u64) -> bool {
        if self.presence(chunk, record) == Presence::Unverified {
            for (_, store) in self.stores() {
                if store.presence(record) == Presence::Unverified {
                    *reverified += 1;
                    store.verify(record);
                }
            }
        }
        self.has(chunk, record)
    }

    /// The chunks of `range` that can be read neither from a store nor from `carried`.
    pub fn not_ready(&self, range: &Range<u64>, carried: &Carried, reverified: &mut u64) -> Vec<u32> {
        self.table
            .within(range.start, range.end)
            .filter(|(chunk, record)| !carried.contains_key(chunk) && !self.is_ready(*chunk, record, reverified))
            .map(|(chunk, _)| chunk)
            .collect()
    }

    /// Keeps a verified chunk in the shared store, or in its own where the shared place belongs to another record.
    /// False when it is in neither.
    pub fn keep(&self, chunk: u32, record: &Record, bytes: &[u8]) -> io::Result<bool> {
        for (place, store) in self.stores() {
            match store.keep(record, bytes)? {
                Kept::Stored => {
                    self.set_place(chunk, place);
                    return Ok(true);
                }
                Kept::Busy => return Ok(false),
                Kept::Taken => {}
            }
        }
        Ok(false)
    }

    /// Fills `buffer` with the bytes of the device from `offset`; every chunk of it must be ready. A chunk that cannot
    /// be read is forgotten, so that the next reader fetches it again.
    pub fn read(&self, buffer: &mut [u8], offset: u64, carried: &Carried) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let mut done = offset;
        for (chunk, record) in self.table.within(offset, end) {
            let (from, to) = (record.offset().max(offset), record.end().min(end));
            part(buffer, offset, done..from)?.fill(0);
            let target = part(buffer, offset, from..to)?;
            match carried.get(&chunk) {
                Some(bytes) => target.copy_from_slice(part_of(bytes, record.offset(), from..to)?),
                None => self.read_stored(chunk, record, target, from)?,
            }
            done = to;
        }
        part(buffer, offset, done..end)?.fill(0);
        Ok(())
    }

    fn read_stored(&self, chunk: u32, record: &Record, target: &mut [u8], offset: u64) -> io::Result<()> {
        let store = match self.place(chunk) {
            SHARED => &self.blob.store,
            OWN => &self.own.store,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        store.read(target, offset).inspect_err(|_| {
            store.forget(record);
            self.set_place(chunk, UNKNOWN);
        })
    }
}

/// Indexes of `range` in a buffer that begins at `base`; an error instead of a panic should a bound ever be wrong.
fn indexes(base: u64, range: Range<u64>) -> io::Result<Range<usize>> {
    let index = |at: u64| at.checked_sub(base).and_then(|at| usize::try_from(at).ok());
    match (index(range.start), index(range.end)) {
        (Some(start), Some(end)) if start <= end => Ok(start..end),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn part(buffer: &mut [u8], base: u64, range: Range<u64>) -> io::Result<&mut [u8]> {
    buffer.get_mut(indexes(base, range)?).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn part_of(buffer: &[u8], base: u64, range: Range<u64>) -> io::Result<&[u8]> {
    buffer.get(indexes(base, range)?).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
