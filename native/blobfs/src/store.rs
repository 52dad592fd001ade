//! A store: a directory with a sparse `data` file, laid out as the blob's address space, and the `map` of what is in it.
//!
//! No two chunks in a store overlap. A chunk is there only for who asks with the very same record, so what one image
//! says about a blob never changes what another one reads. An entry follows its data, so the death of the process
//! leaves no entry without data; after a reboot entries are verified before their first use.

use crate::map::{self, BootId, HEADER_SIZE, Header, Mark};
use crate::sync::lock;
use crate::table::{RECORD_SIZE, Record};
use lacuna_codec::Digester;
use lacuna_sys::SysError;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Absent,
    Present,
    /// Present if its bytes still hash to its digest: see [`Store::verify`].
    Unverified,
}

/// What became of a chunk that was to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    Stored,
    /// Its place belongs to another chunk.
    Taken,
    /// The same chunk is being written by another thread.
    Busy,
}

enum State {
    Writing,
    Present,
    Unverified,
}

struct Entry {
    record: Record,
    state: State,
}

struct Entries {
    /// By offset.
    chunks: BTreeMap<u64, Entry>,
    map: File,
    /// End of the last whole entry; a torn one behind it is overwritten by the next.
    map_end: u64,
}

pub struct Store {
    data: File,
    entries: Mutex<Entries>,
}

/// For reading alone where the file system is read-only: what is kept is served, and writes to it fail.
fn open_file(path: &Path) -> Result<File, SysError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .or_else(|e| if is_read_only(&e) { File::open(path) } else { Err(e) })
        .map_err(|e| SysError::from_io("open", path.display().to_string(), &e))
}

fn open_for_reading(path: &Path) -> Result<File, SysError> {
    File::open(path).map_err(|e| SysError::from_io("open", path.display().to_string(), &e))
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

impl Store {
    /// Opens the store in `directory`, which must exist; makes an empty one where there is none.
    pub fn open(directory: &Path, boot: BootId) -> Result<Store, SysError> {
        let (data, path) = (directory.join("data"), directory.join("map"));
        let failed = |e: &io::Error| SysError::from_io("read", path.display().to_string(), e);
        // A map without its data speaks of nothing; and the data to be made could get the old one's inode number.
        if !data.try_exists().map_err(|e| failed(&e))? {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
                _ => {}
            }
        }
        let data = open_file(&data)?;
        let data_inode = data.metadata().map_err(|e| failed(&e))?.ino();
        let header = Header { boot, data_inode };
        let (found, mut entries) = load(open_file(&path)?).map_err(|e| failed(&e))?;
        if found == Some(header) {
            entries.cut().map_err(|e| failed(&e))?;
        } else {
            for entry in entries.chunks.values_mut() {
                entry.state = State::Unverified;
            }
            match rewrite(&path, &header, &entries.chunks) {
                Ok((map, end)) => (entries.map, entries.map_end) = (map, end),
                // Under the old header every later process verifies the chunks again.
                Err(error) if is_read_only(&error) => entries.map = open_for_reading(&path)?,
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(Store { data, entries: Mutex::new(entries) })
    }

    pub fn presence(&self, record: &Record) -> Presence {
        match lock(&self.entries).chunks.get(&record.offset()) {
            Some(entry) if entry.record == *record => match entry.state {
                State::Writing => Presence::Absent,
                State::Present => Presence::Present,
                State::Unverified => Presence::Unverified,
            },
            _ => Presence::Absent,
        }
    }

    /// Hashes an unverified chunk; true when it may be used from now on, false when it is absent from now on.
    pub fn verify(&self, record: &Record) -> bool {
        let mut bytes = vec![0; record.size() as usize];
        let right = self.data.read_exact_at(&mut bytes, record.offset()).is_ok()
            && Digester::try_from(record.digester()).is_ok_and(|hash| hash.digest(&bytes) == record.digest());
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.chunks.get_mut(&record.offset()).filter(|entry| entry.record == *record) else {
            return false;
        };
        match entry.state {
            // Another thread was faster.
            State::Present => return true,
            State::Writing => return false,
            State::Unverified => {}
        }
        let mark = if right { Mark::Present } else { Mark::Removed };
        if right {
            entry.state = State::Present;
        } else {
            entries.chunks.remove(&record.offset());
        }
        // An entry that cannot be written costs another verification after the next start, nothing else.
        let _ = entries.append(record, mark);
        right
    }

    /// Writes a chunk whose bytes were verified. After an error it is absent.
    pub fn keep(&self, record: &Record, bytes: &[u8]) -> io::Result<Kept> {
        {
            let mut entries = lock(&self.entries);
            if let Some(entry) = entries.chunks.get_mut(&record.offset()).filter(|entry| entry.record == *record) {
                match entry.state {
                    State::Present => return Ok(Kept::Stored),
                    State::Writing => return Ok(Kept::Busy),
                    State::Unverified => entry.state = State::Writing,
                }
            } else if entries.overlapping(record).is_some() {
                return Ok(Kept::Taken);
            } else {
                entries.chunks.insert(record.offset(), Entry { record: *record, state: State::Writing });
            }
        }
        let written = self.data.write_all_at(bytes, record.offset());
        let mut entries = lock(&self.entries);
        if let Err(error) = written {
            entries.chunks.remove(&record.offset());
            // An earlier boot's entry may be on disk and its data is half overwritten now: verified before use anyway.
            return Err(error);
        }
        if let Some(entry) = entries.chunks.get_mut(&record.offset()) {
            entry.state = State::Present;
        }
        // Its data is there and stays usable; only a later process would not know of it.
        entries.append(record, Mark::Present).map(|()| Kept::Stored)
    }

    /// Makes a chunk absent whose data cannot be read.
    pub fn forget(&self, record: &Record) {
        let mut entries = lock(&self.entries);
        let is_it = |entry: &Entry| entry.record == *record && !matches!(entry.state, State::Writing);
        if !entries.chunks.get(&record.offset()).is_some_and(is_it) {
            return;
        }
        if entries.append(record, Mark::Removed).is_ok() {
            entries.chunks.remove(&record.offset());
        } else if let Some(entry) = entries.chunks.get_mut(&record.offset()) {
            // The map still says that it is present, so nobody else may write there.
            entry.state = State::Unverified;
        }
    }

    /// Fills `buffer` from `offset`, wholly or not at all. Only for ranges of present chunks.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buffer, offset)
    }

    /// Whether its files were deleted meanwhile.
    pub fn is_deleted(&self) -> bool {
        self.data.metadata().map_or(true, |data| data.nlink() == 0)
    }
}

impl Entries {
    /// The offset of the last chunk that shares bytes with `record`.
    fn overlapping(&self, record: &Record) -> Option<u64> {
        let (offset, entry) = self.chunks.range(..record.end()).next_back()?;
        (entry.record.end() > record.offset()).then_some(*offset)
    }

    /// Puts in what a map says. A later entry wins over those it overlaps: its data was written later.
    fn load(&mut self, record: Record, state: State) {
        while let Some(offset) = self.overlapping(&record) {
            self.chunks.remove(&offset);
        }
        self.chunks.insert(record.offset(), Entry { record, state });
    }

    /// Cuts off a torn entry.
    fn cut(&self) -> io::Result<()> {
        if self.map.metadata()?.len() == self.map_end { Ok(()) } else { self.map.set_len(self.map_end) }
    }

    fn append(&mut self, record: &Record, mark: Mark) -> io::Result<()> {
        self.map.write_all_at(&map::encode_entry(record, mark), self.map_end)?;
        self.map_end += RECORD_SIZE as u64;
        Ok(())
    }
}

/// The header and the chunks that `map` tells of.
fn load(map: File) -> io::Result<(Option<Header>, Entries)> {
    let mut entries = Entries { chunks: BTreeMap::new(), map: map.try_clone()?, map_end: 0 };
    let mut reader = BufReader::with_capacity(1 << 16, map);
    let mut header = [0; HEADER_SIZE];
    let header = if read_whole(&mut reader, &mut header)? { Header::decode(&header) } else { None };
    if header.is_none() {
        return Ok((None, entries));
    }
    entries.map_end = HEADER_SIZE as u64;
    let mut bytes = [0; RECORD_SIZE];
    while read_whole(&mut reader, &mut bytes)? {
        let Some((record, mark)) = map::decode_entry(&bytes) else { break };
        match mark {
            Mark::Removed => {
                entries.chunks.remove(&record.offset());
            }
            Mark::Present => entries.load(record, State::Present),
            Mark::Unverified => entries.load(record, State::Unverified),
        }
        entries.map_end += RECORD_SIZE as u64;
    }
    Ok((header, entries))
}

/// False at the end of the file, also in the middle of a buffer.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces the map by one that says of every chunk that it is unverified.
fn rewrite(path: &Path, header: &Header, chunks: &BTreeMap<u64, Entry>) -> io::Result<(File, u64)> {
    let mut bytes = header.encode().to_vec();
    for entry in chunks.values() {
        bytes.extend_from_slice(&map::encode_entry(&entry.record, Mark::Unverified));
    }
    let temporary = path.with_extension("new");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all_at(&bytes, 0)?;
    fs::rename(&temporary, path)?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
pub mod tests;
