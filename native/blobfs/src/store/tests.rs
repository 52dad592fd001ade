use super::*;
use crate::table::tests::record;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty directory that goes away again.
pub struct Room(pub PathBuf);

impl Room {
    pub fn new() -> Room {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lacuna-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Room(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn boot(last: char) -> BootId {
    BootId::parse(&format!("00000000-0000-0000-0000-00000000000{last}")).unwrap()
}

/// A chunk with its true digest.
fn chunk(offset: u64, content: &[u8]) -> Record {
    let mut record = record(offset, content.len() as u32, 0);
    record.0[32..].copy_from_slice(&Digester::Blake3.digest(content));
    record
}

fn read(store: &Store, record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; record.size() as usize];
    store.read(&mut bytes, record.offset()).unwrap();
    bytes
}

#[test]
fn what_is_kept_is_there_for_the_same_record_only_and_after_a_restart() {
    let room = Room::new();
    let store = Store::open(&room.0, boot('1')).unwrap();
    let a = chunk(4096, b"some content");
    assert_eq!(store.presence(&a), Presence::Absent);
    assert_eq!(store.keep(&a, b"some content").unwrap(), Kept::Stored);
    assert_eq!(store.keep(&a, b"some content").unwrap(), Kept::Stored);
    for at in [8, 16, 24, 25, 40] {
        let mut other = a;
        other.0[at] ^= 1;
        assert_eq!(store.presence(&other), Presence::Absent);
        assert_eq!(store.keep(&other, b"lies, lies!!").unwrap(), Kept::Taken);
    }
    assert_eq!(store.keep(&chunk(0, &[1; 4097]), &[1; 4097]).unwrap(), Kept::Taken);
    assert_eq!(store.keep(&chunk(0, &[1; 4096]), &[1; 4096]).unwrap(), Kept::Stored);
    drop(store);
    let store = Store::open(&room.0, boot('1')).unwrap();
    assert_eq!(store.presence(&a), Presence::Present);
    assert_eq!(read(&store, &a), b"some content");
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on_behind_it() {
    let room = Room::new();
    let (a, b, c) = (chunk(0, b"a"), chunk(4096, b"b"), chunk(8192, b"c"));
    let store = Store::open(&room.0, boot('1')).unwrap();
    store.keep(&a, b"a").unwrap();
    store.keep(&b, b"b").unwrap();
    drop(store);
    let map = OpenOptions::new().write(true).open(room.0.join("map")).unwrap();
    map.set_len((HEADER_SIZE + RECORD_SIZE + 40) as u64).unwrap();
    let store = Store::open(&room.0, boot('1')).unwrap();
    assert_eq!(map.metadata().unwrap().len(), (HEADER_SIZE + RECORD_SIZE) as u64);
    assert_eq!([store.presence(&a), store.presence(&b)], [Presence::Present, Presence::Absent]);
    store.keep(&c, b"c").unwrap();
    drop(store);
    let store = Store::open(&room.0, boot('1')).unwrap();
    assert_eq!([store.presence(&a), store.presence(&c)], [Presence::Present, Presence::Present]);
}

#[test]
fn a_map_of_another_boot_is_verified_chunk_by_chunk_and_only_once() {
    let room = Room::new();
    let (good, lost) = (chunk(0, &[1; 5000]), chunk(8192, &[2; 5000]));
    let store = Store::open(&room.0, boot('1')).unwrap();
    store.keep(&good, &[1; 5000]).unwrap();
    store.keep(&lost, &[2; 5000]).unwrap();
    drop(store);
    OpenOptions::new().write(true).open(room.0.join("data")).unwrap().write_all_at(&[0; 100], 9000).unwrap();

    // Neither a restart nor a second one within the new boot makes them trusted.
    drop(Store::open(&room.0, boot('2')).unwrap());
    let store = Store::open(&room.0, boot('2')).unwrap();
    assert_eq!([store.presence(&good), store.presence(&lost)], [Presence::Unverified; 2]);
    assert!(store.verify(&good));
    assert!(!store.verify(&lost));
    assert_eq!([store.presence(&good), store.presence(&lost)], [Presence::Present, Presence::Absent]);
    drop(store);
    let store = Store::open(&room.0, boot('2')).unwrap();
    assert_eq!([store.presence(&good), store.presence(&lost)], [Presence::Present, Presence::Absent]);
    assert_eq!(store.keep(&lost, &[2; 5000]).unwrap(), Kept::Stored);
    assert_eq!(read(&store, &lost), [2; 5000]);
}

#[test]
fn a_map_beside_a_foreign_data_file_is_not_believed() {
    let room = Room::new();
    let a = chunk(0, b"content");
    let store = Store::open(&room.0, boot('1')).unwrap();
    store.keep(&a, b"content").unwrap();
    // Made before the old one goes, so that it cannot get the same inode.
    fs::write(room.0.join("other"), b"garbage").unwrap();
    fs::rename(room.0.join("other"), room.0.join("data")).unwrap();
    assert!(store.is_deleted());
    drop(store);
    let store = Store::open(&room.0, boot('1')).unwrap();
    assert_eq!(store.presence(&a), Presence::Unverified);
    assert!(!store.verify(&a));
}

#[test]
fn garbage_in_place_of_a_map_is_an_empty_map() {
    for garbage in [&b"x"[..], &[0; 4096], &[0xff; 97]] {
        let room = Room::new();
        fs::write(room.0.join("map"), garbage).unwrap();
        let a = chunk(0, b"content");
        let store = Store::open(&room.0, boot('1')).unwrap();
        assert_eq!(store.presence(&a), Presence::Absent);
        store.keep(&a, b"content").unwrap();
        drop(store);
        assert_eq!(Store::open(&room.0, boot('1')).unwrap().presence(&a), Presence::Present);
    }
}

#[test]
fn a_forgotten_chunk_stays_forgotten() {
    let room = Room::new();
    let a = chunk(0, b"content");
    let store = Store::open(&room.0, boot('1')).unwrap();
    store.keep(&a, b"content").unwrap();
    store.forget(&a);
    assert_eq!(store.presence(&a), Presence::Absent);
    drop(store);
    assert_eq!(Store::open(&room.0, boot('1')).unwrap().presence(&a), Presence::Absent);
}
