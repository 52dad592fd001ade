//! The file system: its devices, the reads that wait, the chunks that come. Knows no transport and no protocol.

use crate::counters::{Counters, Counts, count};
use crate::demand::Read;
use crate::device::{Blob, Carried, Content, Device};
use crate::error::{Error, Result};
use crate::map::BootId;
use crate::parked::{Budget, MAX_WAITING, Parked};
use crate::store::{Presence, Store};
use crate::sync::{lock, read, write};
use crate::table::{Record, Table};
use crate::units::{Unit, Units};
use lacuna_codec::{CodecError, Digester, decode_chunk, decode_unit, verify};
use lacuna_sys::SysError;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

/// The longest read that is answered; the kernel is told so.
pub const MAX_READ: usize = 1 << 20;
const MAX_NAME: usize = 255;

/// Where answers go. One request may be answered by another thread, long after it came.
pub trait Channel: Send + Sync {
    /// One whole message, in parts. Failures are the channel's own business: the asker is gone.
    fn send(&self, parts: &[IoSlice]);
    /// What was agreed with the other side, for a successor of this process; called before the agreement is answered.
    fn agreed(&self, state: &[u8]);
}

/// A positive error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// Called with the handle of a device and chunks that its readers wait for and that it was not asked for yet. Must not
/// block.
pub type OnMiss = Box<dyn Fn(u32, Vec<u32>) + Send + Sync>;

pub struct DeviceOptions<'a> {
    pub name: &'a str,
    /// The kernel's number of the file. Nobody else's, now or before: the kernel may still know a device that is gone.
    pub node: u64,
    /// Whose device it is.
    pub image: &'a str,
    pub size: u64,
    pub table: &'a [u8],
    /// Empty when every chunk is stored alone.
    pub units: &'a [u8],
    pub shared_dir: &'a Path,
    pub own_dir: &'a Path,
}

/// Node ids are offsets of a directory as well: signed numbers.
const FIRST_NODE: u64 = 3;
const MAX_NODE: u64 = i64::MAX as u64;

#[derive(Default)]
pub(crate) struct Devices {
    pub by_node: BTreeMap<u64, Arc<Device>>,
    pub by_name: HashMap<String, Arc<Device>>,
    by_handle: HashMap<u32, Arc<Device>>,
    last_handle: u32,
}

impl Devices {
    fn add(&mut self, options: &DeviceOptions, content: Arc<Content>) -> Result<u32> {
        let other = self.by_name.get(options.name).or_else(|| self.by_node.get(&options.node));
        if let Some(other) = other {
            return Err(Error::AlreadyExists(format!("device {}", other.name)));
        }
        let twin = self.by_handle.values().find(|device| device.content.agrees(&content));
        self.last_handle += 1;
        let handle = self.last_handle;
        let device = Arc::new(Device {
            handle,
            name: options.name.to_owned(),
            node: options.node,
            image: options.image.into(),
            content: twin.map_or(content, |twin| twin.content.clone()),
            removed: AtomicBool::new(false),
        });
        self.by_node.insert(device.node, device.clone());
        self.by_name.insert(device.name.clone(), device.clone());
        self.by_handle.insert(handle, device);
        Ok(handle)
    }
}

pub struct BlobFs {
    pub(crate) devices: RwLock<Devices>,
    pub(crate) early: crate::dispatch::Early,
    pub(crate) counts: Counts,
    parked: Mutex<Parked>,
    /// By device and inode number of the directory: a path may get another directory.
    blobs: Mutex<HashMap<(u64, u64), Weak<Blob>>>,
    boot: BootId,
    on_miss: RwLock<Option<OnMiss>>,
}

thread_local! {
    /// What a thread reads into before it answers.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_READ]);
}

impl BlobFs {
    pub fn new(boot: BootId, on_miss: OnMiss) -> BlobFs {
        BlobFs::with_budget(boot, on_miss, MAX_WAITING)
    }

    /// `waiting`: chunks that reads of all devices may wait for at once.
    pub(crate) fn with_budget(boot: BootId, on_miss: OnMiss, waiting: usize) -> BlobFs {
        BlobFs {
            devices: RwLock::default(),
            early: crate::dispatch::Early::default(),
            counts: Counts::default(),
            parked: Mutex::new(Parked::new(Budget::new(waiting))),
            blobs: Mutex::default(),
            boot,
            on_miss: RwLock::new(Some(on_miss)),
        }
    }

    /// Adds a device file and gives its handle. Whatever was waiting for a file of this name goes on.
    pub fn add_device(&self, options: &DeviceOptions) -> Result<u32> {
        let name = options.name;
        if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(Error::Usage(format!("name: {name:?} is no file name")));
        }
        // Above the offsets of `.` and `..`, which node ids share a listing with.
        if options.node < FIRST_NODE || options.node > MAX_NODE {
            return Err(Error::Usage(format!("node: {} is not {FIRST_NODE}…{MAX_NODE}", options.node)));
        }
        let table = Table::decode(options.table, options.size)?;
        let units = if options.units.is_empty() { None } else { Some(Units::decode(options.units, &table)?) };
        let stores = [self.blob_at(options.shared_dir)?, self.blob_at(options.own_dir)?];
        let content = Arc::new(Content::new(options.size, table, units, stores));
        let handle = write(&self.devices).add(options, content)?;
        self.retry_early();
        Ok(handle)
    }

    fn blob_at(&self, directory: &Path) -> Result<Arc<Blob>> {
        let metadata = std::fs::metadata(directory)
            .map_err(|e| SysError::from_io("open store", directory.display().to_string(), &e))?;
        let place = (metadata.dev(), metadata.ino());
        let mut blobs = lock(&self.blobs);
        if let Some(blob) = blobs.get(&place).and_then(Weak::upgrade).filter(|blob| !blob.store.is_deleted()) {
            return Ok(blob);
        }
        let blob = Arc::new(Blob { store: Store::open(directory, self.boot)?, demands: Default::default() });
        blobs.retain(|_, blob| blob.strong_count() > 0);
        blobs.insert(place, Arc::downgrade(&blob));
        Ok(blob)
    }

    /// The device's file disappears; its waiting reads end with EIO.
    pub fn remove_device(&self, handle: u32) -> Result<()> {
        let device = {
            let mut devices = write(&self.devices);
            let device = devices.by_handle.remove(&handle).ok_or_else(|| unknown(handle))?;
            devices.by_node.remove(&device.node);
            devices.by_name.remove(&device.name);
            device
        };
        device.removed.store(true, Ordering::Release);
        for record in device.content.blob.demands.records() {
            self.give_up(&device, &record, Errno(libc::EIO));
        }
        Ok(())
    }

    pub(crate) fn device(&self, handle: u32) -> Result<Arc<Device>> {
        read(&self.devices).by_handle.get(&handle).cloned().ok_or_else(|| unknown(handle))
    }

    /// Whose device it is.
    pub fn image_of(&self, handle: u32) -> Result<Arc<str>> {
        Ok(self.device(handle)?.image.clone())
    }

    /// Of `count` chunks from `first` on those that would have to be fetched. No I/O: what an earlier boot left counts
    /// as there until somebody reads it.
    pub fn missing(&self, handle: u32, first: u32, count: u32) -> Result<Vec<u32>> {
        let device = self.device(handle)?;
        let content = &device.content;
        let last = first.saturating_add(count).min(content.table.len() as u32);
        let absent =
            |chunk: &u32| content.table.get(*chunk).is_some_and(|r| content.presence(*chunk, r) == Presence::Absent);
        Ok((first..last).filter(absent).collect())
    }

    /// Decodes, verifies and keeps a chunk, or all chunks of the unit that it lies within, and answers the reads that
    /// waited for them. Works on the calling thread.
    pub fn deliver(&self, handle: u32, chunk: u32, stored: &[u8]) -> Result<()> {
        let device = self.device(handle)?;
        let content = &*device.content;
        let Some(record) = content.table.get(chunk) else {
            return Err(Error::Usage(format!("device {}: no chunk {chunk}", device.name)));
        };
        if let Some((units, unit)) = content.units.as_ref().and_then(|units| Some((units, units.of(chunk)?))) {
            return self.deliver_unit(content, units, unit, stored);
        }
        let mut bytes = None;
        if !content.has(chunk, record) {
            let mut decoded = Vec::new();
            decode(record, stored, &mut decoded).inspect_err(|_| count(&self.counts.rejected, 1))?;
            self.keep(content, chunk, record, &decoded);
            bytes = Some(Arc::new(decoded));
        }
        self.wake(content, record, bytes.as_ref());
        Ok(())
    }

    /// Each chunk is verified for itself. One that is wrong does not keep the others from their readers, and is an error
    /// only when somebody waits for it.
    fn deliver_unit(&self, content: &Content, units: &Units, unit: &Unit, stored: &[u8]) -> Result<()> {
        let rejected = |error: Error| {
            count(&self.counts.rejected, 1);
            error
        };
        let demands = &content.blob.demands;
        let mut plain = Vec::new();
        let mut result = Ok(());
        for member in units.members(unit) {
            let Some(record) = content.table.get(member.chunk) else { continue };
            let mut bytes = None;
            if !content.has(member.chunk, record) {
                if plain.is_empty() {
                    expect_length(unit.compressed_size, stored).map_err(rejected)?;
                    decode_unit(stored, units.decoder(unit), unit.size as usize, &mut plain)
                        .map_err(|error| rejected(error.into()))?;
                }
                let start = member.offset as usize;
                let chunk = &plain[start..start + record.size() as usize];
                let checked = Digester::try_from(record.digester()).and_then(|by| verify(chunk, by, &record.digest()));
                if let Err(error) = checked {
                    let error = rejected(error.into());
                    if demands.has(record) {
                        result = Err(error);
                    }
                    continue;
                }
                self.keep(content, member.chunk, record, chunk);
                // Most chunks of a unit come before anybody wants them.
                bytes = demands.has(record).then(|| Arc::new(chunk.to_vec()));
            }
            self.wake(content, record, bytes.as_ref());
        }
        result
    }

    fn keep(&self, content: &Content, chunk: u32, record: &Record, bytes: &[u8]) {
        if content.keep(chunk, record, bytes).is_err() {
            // The disk is full or broken: those who wait are served from memory, the next ones fetch again.
            count(&self.counts.store_errors, 1);
        }
        count(&self.counts.delivered, 1);
    }

    /// A chunk is there: whoever has all that it waited for now goes on.
    fn wake(&self, content: &Content, record: &Record, bytes: Option<&Arc<Vec<u8>>>) {
        for read in content.blob.demands.deliver(record, bytes) {
            if self.unpark(&read) {
                self.go_on(read.unique, &read.channel, &read.device, &read.range, read.carried());
            }
        }
    }

    /// Ends the wait of all this device's reads of these chunks with `errno`; other devices' reads go on waiting.
    pub fn fail(&self, handle: u32, chunks: &[u32], errno: Errno) -> Result<()> {
        let device = self.device(handle)?;
        for record in chunks.iter().filter_map(|chunk| device.content.table.get(*chunk)) {
            self.give_up(&device, record, errno);
        }
        Ok(())
    }

    fn give_up(&self, device: &Device, record: &Record, errno: Errno) {
        for read in device.content.blob.demands.give_up(device, record) {
            if self.unpark(&read) {
                self.refuse(&read.channel, read.unique, errno);
            }
        }
    }

    fn ask(&self, device: u32, chunks: Vec<u32>) {
        if let Some(on_miss) = &*read(&self.on_miss) {
            on_miss(device, chunks);
        }
    }

    /// Nobody is asked for chunks any more; what waits goes on waiting, for a successor.
    pub fn stop_asking(&self) {
        *write(&self.on_miss) = None;
    }

    /// A read of the device: answered at once, or parked until its chunks have come.
    pub(crate) fn read(&self, unique: u64, channel: &Arc<dyn Channel>, device: &Arc<Device>, offset: u64, size: usize) {
        count(&self.counts.reads, 1);
        let start = offset.min(device.content.size);
        let end = start.saturating_add(size as u64).min(device.content.size);
        let waited = self.go_on(unique, channel, device, &(start..end), Carried::new());
        count(if waited { &self.counts.misses } else { &self.counts.hits }, 1);
    }

    /// Whether the read had to be parked.
    fn go_on(
        &self,
        unique: u64,
        channel: &Arc<dyn Channel>,
        device: &Arc<Device>,
        range: &Range<u64>,
        mut carried: Carried,
    ) -> bool {
        let mut waited = false;
        loop {
            let mut reverified = 0;
            let missing = device.content.not_ready(range, &carried, &mut reverified);
            count(&self.counts.reverified, reverified);
            if missing.is_empty() {
                self.answer(unique, channel, &device.content, range, &carried);
                return waited;
            }
            waited = true;
            let (to, on, cost) = (channel.clone(), device.clone(), missing.len());
            let read = Arc::new(Read::new(unique, to, on, range.clone(), cost, carried));
            if !lock(&self.parked).insert(&read) {
                count(&self.counts.shed, 1);
                self.refuse(channel, unique, Errno(libc::EIO));
                return true;
            }
            match device.content.blob.demands.join(&read, &missing) {
                Ok((fresh, true)) => {
                    if !fresh.is_empty() {
                        self.ask(device.handle, fresh);
                    }
                    return true;
                }
                // All came in the meantime.
                Ok((_, false)) => {
                    if !self.unpark(&read) {
                        return true;
                    }
                    carried = read.carried();
                }
                Err(errno) => {
                    if self.unpark(&read) {
                        self.refuse(channel, unique, errno);
                    }
                    return true;
                }
            }
        }
    }

    /// Whoever takes a read out of the table answers it, nobody else.
    fn unpark(&self, read: &Arc<Read>) -> bool {
        lock(&self.parked).remove(read)
    }

    /// Ends a parked read with EINTR; false when there is none of this number.
    pub(crate) fn interrupt(&self, channel: &Arc<dyn Channel>, unique: u64) -> bool {
        let found = lock(&self.parked).remove_by_number(channel, unique);
        if found {
            self.refuse(channel, unique, Errno(libc::EINTR));
        }
        found
    }

    fn answer(
        &self,
        unique: u64,
        channel: &Arc<dyn Channel>,
        content: &Content,
        range: &Range<u64>,
        carried: &Carried,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let bytes = buffer.get_mut(..length);
            let filled = bytes.and_then(|bytes| content.read(bytes, range.start, carried).ok().map(|()| bytes));
            let Some(bytes) = filled else { return self.refuse(channel, unique, Errno(libc::EIO)) };
            count(&self.counts.read_bytes, bytes.len() as u64);
            crate::dispatch::reply(&**channel, unique, bytes);
        });
    }

    /// Ends a read with an error.
    pub(crate) fn refuse(&self, channel: &Arc<dyn Channel>, unique: u64, errno: Errno) {
        if errno.0 != libc::EINTR {
            count(&self.counts.errors, 1);
        }
        crate::dispatch::reply_error(&**channel, unique, errno);
    }

    pub fn counters(&self) -> Counters {
        self.counts.read(lock(&self.parked).len() as u64)
    }
}

fn unknown(handle: u32) -> Error {
    Error::NotFound(format!("device {handle}"))
}

fn expect_length(promised: u32, stored: &[u8]) -> Result<()> {
    if stored.len() == promised as usize {
        return Ok(());
    }
    Err(CodecError::format("compressed_size", format!("{promised} promised, {} delivered", stored.len())).into())
}

fn decode(record: &Record, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
    expect_length(record.compressed_size(), stored)?;
    let (compressor, digester) = (record.compressor(), record.digester());
    Ok(decode_chunk(stored, compressor, record.size() as usize, digester, &record.digest(), out)?)
}
