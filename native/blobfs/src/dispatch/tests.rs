use super::*;
use crate::fs::{DeviceOptions, OnMiss};
use crate::map::BootId;
use crate::store::tests::Room;
use crate::table::Record;
use crate::table::tests::record;
use lacuna_codec::Digester;
use std::sync::Mutex;

const UNIQUE: u64 = 0x42;

/// Answers in the order in which they came: unique, error, body.
#[derive(Default)]
struct Recorder {
    answers: Mutex<Vec<(u64, i32, Vec<u8>)>>,
    state: Mutex<Vec<u8>>,
}

impl Channel for Recorder {
    fn send(&self, parts: &[IoSlice]) {
        let message: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        assert_eq!(abi::u32_at(&message, 0), Some(message.len() as u32));
        let (error, unique) = (abi::u32_at(&message, 4).unwrap() as i32, abi::u64_at(&message, 8).unwrap());
        lock(&self.answers).push((unique, error, message[16..].to_vec()));
    }

    fn agreed(&self, state: &[u8]) {
        *lock(&self.state) = state.to_vec();
    }
}

/// What was asked for: device and chunks.
type Misses = Arc<Mutex<Vec<(u32, Vec<u32>)>>>;

struct Bench {
    fs: BlobFs,
    recorder: Arc<Recorder>,
    channel: Arc<dyn Channel>,
    misses: Misses,
    room: Room,
}

/// Node ids of the devices here, by their names.
fn node_id(name: &str) -> u64 {
    name.bytes().fold(1000, |id, byte| id * 31 + u64::from(byte))
}

impl Bench {
    fn new() -> Bench {
        Bench::with_budget(crate::parked::MAX_WAITING)
    }

    fn with_budget(waiting: usize) -> Bench {
        let misses: Misses = Arc::default();
        let seen = misses.clone();
        let on_miss: OnMiss = Box::new(move |device, chunks| lock(&seen).push((device, chunks)));
        let recorder = Arc::new(Recorder::default());
        let channel: Arc<dyn Channel> = recorder.clone();
        let fs = BlobFs::with_budget(BootId::current().unwrap(), on_miss, waiting);
        Bench { fs, recorder, channel, misses, room: Room::new() }
    }

    fn add(&self, name: &str, size: u64, records: &[Record]) -> u32 {
        self.add_with_units(name, size, records, &[])
    }

    fn add_with_units(&self, name: &str, size: u64, records: &[Record], units: &[u8]) -> u32 {
        self.try_add((name, node_id(name), name), size, records, units).unwrap()
    }

    /// A device of this name, node and image.
    fn try_add(
        &self,
        (name, node, own): (&str, u64, &str),
        size: u64,
        records: &[Record],
        units: &[u8],
    ) -> crate::error::Result<u32> {
        let (shared_dir, own_dir) = (&self.room.0.join("shared"), &self.room.0.join(own));
        for dir in [shared_dir, own_dir] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let table = &crate::table::tests::bytes(records);
        self.fs.add_device(&DeviceOptions { name, node, image: name, size, table, units, shared_dir, own_dir })
    }

    fn send(&self, opcode: u32, nodeid: u64, unique: u64, body: &[u8]) {
        let header = Body::default().u32(40 + body.len() as u32).u32(opcode).u64(unique).u64(nodeid).zeros(16);
        self.fs.handle(&[header.0.as_slice(), body].concat(), &self.channel);
    }

    fn answers(&self) -> Vec<(u64, i32, Vec<u8>)> {
        std::mem::take(&mut lock(&self.recorder.answers))
    }

    /// Sends one request and gives its answer, which must come at once.
    fn ask(&self, opcode: u32, nodeid: u64, body: &[u8]) -> (i32, Vec<u8>) {
        self.send(opcode, nodeid, UNIQUE, body);
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "answers to {opcode}");
        let (unique, error, body) = answers.remove(0);
        assert_eq!(unique, UNIQUE);
        (error, body)
    }

    fn read(&self, name: &str, unique: u64, offset: u64, size: u32) {
        self.send(op::READ, node_id(name), unique, &read_body(offset, size));
    }
}

fn read_body(offset: u64, size: u32) -> Vec<u8> {
    Body::default().u64(0).u64(offset).u32(size).zeros(20).0
}

/// A raw chunk with its true digest.
fn chunk(offset: u64, content: &[u8]) -> Record {
    let mut record = record(offset, content.len() as u32, 0);
    record.0[32..].copy_from_slice(&Digester::Blake3.digest(content));
    record
}

#[test]
fn init_takes_what_it_uses_of_what_is_offered() {
    let bench = Bench::new();
    let init = |major: u32, minor: u32, flags: u64| {
        let body = Body::default().u32(major).u32(minor).u32(131072).u32(flags as u32).u32((flags >> 32) as u32);
        bench.ask(op::INIT, 0, &body.zeros(44).0)
    };
    let (error, body) = init(7, 45, u64::MAX);
    assert_eq!((error, body.len()), (0, 64));
    let flags = u64::from(abi::u32_at(&body, 12).unwrap()) | u64::from(abi::u32_at(&body, 32).unwrap()) << 32;
    assert_eq!(flags, 1 | 1 << 15 | 1 << 18 | 1 << 22 | 1 << 30 | 1 << 39);
    assert_eq!(abi::u32_at(&body, 28), Some(256)); // max_pages, map_alignment 0
    assert!(can_continue(&lock(&bench.recorder.state)));
    let (_, body) = init(7, 45, init::ASYNC_READ);
    assert_eq!(abi::u32_at(&body, 12), Some(1));
    assert_eq!(init(8, 0, 0).0, -libc::EPROTO);
    assert_eq!(init(7, 27, 0).0, -libc::EPROTO);
    assert_eq!(bench.ask(op::INIT, 0, &[0; 15]).0, -libc::EINVAL);
    assert!(!can_continue(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!can_continue(&[1]));
}

#[test]
fn names_lead_to_nodes() {
    let bench = Bench::new();
    bench.add("dev", 8192, &[]);
    bench.fs.ready();
    let (error, body) = bench.ask(op::LOOKUP, ROOT_ID, b"dev\0");
    assert_eq!((error, body.len(), abi::u64_at(&body, 0)), (0, 128, Some(node_id("dev"))));
    assert_eq!(abi::u64_at(&body, 48), Some(8192));
    assert_eq!(bench.ask(op::LOOKUP, ROOT_ID, b"none\0").0, -libc::ENOENT);
    assert_eq!(bench.ask(op::LOOKUP, ROOT_ID, b"\xff\0").0, -libc::ENOENT);
    assert_eq!(bench.ask(op::LOOKUP, node_id("dev"), b"x\0").0, -libc::ENOTDIR);
    assert_eq!(bench.ask(op::GETATTR, ROOT_ID, &[0; 16]).1.len(), 104);
    assert_eq!(bench.ask(op::GETATTR, 99, &[0; 16]).0, -libc::ESTALE);
    let (_, open) = bench.ask(op::OPEN, node_id("dev"), &[0; 8]);
    assert_eq!((abi::u64_at(&open, 0), abi::u32_at(&open, 8)), (Some(0), Some(FOPEN_DIRECT_IO)));
    assert_eq!(bench.ask(op::OPEN, node_id("dev"), &[1, 0, 0, 0, 0, 0, 0, 0]).0, -libc::EROFS);
    assert_eq!(bench.ask(op::STATFS, ROOT_ID, &[]).1.len(), 80);
}

#[test]
fn a_name_or_node_that_is_taken_is_refused() {
    let bench = Bench::new();
    bench.add("dev", 4096, &[]);
    assert!(bench.try_add(("dev", 77, "dev"), 4096, &[], &[]).is_err());
    assert!(bench.try_add(("other", node_id("dev"), "dev"), 4096, &[], &[]).is_err());
    for node in [0, 1, 2, 1 << 63] {
        assert!(bench.try_add(("other", node, "dev"), 4096, &[], &[]).is_err());
    }
    bench.try_add(("other", 3, "dev"), 4096, &[], &[]).unwrap();
}

#[test]
fn writes_are_refused_and_the_unknown_is_unknown() {
    let bench = Bench::new();
    bench.fs.ready();
    for opcode in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51] {
        assert_eq!(bench.ask(opcode, ROOT_ID, &[0; 64]).0, -libc::EROFS, "{opcode}");
    }
    for opcode in [5, 20, 22, 23, 25, 34, 39, 40, 44, 46, 48, 50, 52, 4096, u32::MAX] {
        assert_eq!(bench.ask(opcode, ROOT_ID, &[0; 64]).0, -libc::ENOSYS, "{opcode}");
    }
    for opcode in [op::RELEASE, op::RELEASEDIR, op::DESTROY] {
        assert_eq!(bench.ask(opcode, ROOT_ID, &[]), (0, vec![]));
    }
    for opcode in [op::FORGET, op::BATCH_FORGET] {
        bench.send(opcode, 2, UNIQUE, &[0; 16]);
        assert!(bench.answers().is_empty());
    }
}

#[test]
fn no_request_of_any_shape_panics() {
    let bench = Bench::new();
    bench.add("dev", 4096, &[chunk(0, b"x")]);
    bench.fs.ready();
    for opcode in 0..64 {
        for nodeid in [0, ROOT_ID, node_id("dev"), u64::MAX] {
            for length in 0..48 {
                for fill in [0, 0xff] {
                    bench.send(opcode, nodeid, 2, &vec![fill; length]);
                }
            }
        }
    }
    bench.fs.handle(&[], &bench.channel);
    bench.fs.handle(&[0xff; 100], &bench.channel);
}

#[test]
fn a_read_waits_for_its_chunks_and_carries_the_mark_of_a_resent_one() {
    let bench = Bench::new();
    let device = bench.add("dev", 12288, &[chunk(0, b"first"), chunk(8192, b"second")]);
    bench.fs.ready();
    let resent = UNIQUE_RESEND | 7;
    bench.read("dev", resent, 0, 12288);
    bench.read("dev", 9, 8192, 100);
    assert_eq!(*lock(&bench.misses), [(device, vec![0, 1])]);
    assert!(bench.fs.deliver(device, 0, b"wrong").is_err());
    bench.fs.deliver(device, 0, b"first").unwrap();
    assert!(bench.answers().is_empty());
    bench.fs.deliver(device, 1, b"second").unwrap();
    let mut answers = bench.answers();
    answers.sort();
    let mut expected = vec![0; 12288];
    expected[..5].copy_from_slice(b"first");
    expected[8192..8198].copy_from_slice(b"second");
    assert_eq!(answers, [(9, 0, expected[8192..8292].to_vec()), (resent, 0, expected)]);
    let counters = bench.fs.counters();
    assert_eq!((counters.resent, counters.rejected, counters.waiting, counters.misses), (1, 1, 0, 2));
    // Over the limit of one read, beyond the end, and without a whole body.
    assert_eq!(bench.ask(op::READ, node_id("dev"), &read_body(0, u32::MAX)).0, -libc::EINVAL);
    assert_eq!(bench.ask(op::READ, node_id("dev"), &read_body(u64::MAX, 4096)), (0, vec![]));
    assert_eq!(bench.ask(op::READ, node_id("dev"), &[0; 19]).0, -libc::EINVAL);
    assert_eq!(bench.ask(op::READ, 99, &read_body(0, 1)).0, -libc::EIO);
}

#[test]
fn an_interrupt_ends_a_waiting_read_once() {
    let bench = Bench::new();
    let device = bench.add("dev", 4096, &[chunk(0, b"x")]);
    let interrupt = |unique: u64| bench.send(op::INTERRUPT, 0, unique | 1, &unique.to_ne_bytes());
    bench.read("dev", 8, 0, 1);
    bench.read("other", 10, 0, 1);
    interrupt(8);
    interrupt(10);
    assert_eq!(bench.answers(), [(8, -libc::EINTR, vec![]), (10, -libc::EINTR, vec![])]);
    interrupt(8);
    assert_eq!(bench.answers(), [(9, -libc::EAGAIN, vec![])]);
    bench.fs.deliver(device, 0, b"x").unwrap();
    bench.fs.ready();
    assert!(bench.answers().is_empty());
}

#[test]
fn before_ready_the_unknown_is_waited_for() {
    let bench = Bench::new();
    let device = chunk(0, b"content");
    bench.send(op::LOOKUP, ROOT_ID, 2, b"dev\0");
    bench.read("dev", 4, 0, 7);
    bench.send(op::GETATTR, node_id("never"), 6, &[0; 16]);
    assert!(bench.answers().is_empty());
    let device = bench.add("dev", 4096, &[device]);
    assert_eq!(bench.answers().iter().map(|answer| (answer.0, answer.1)).collect::<Vec<_>>(), [(2, 0)]);
    bench.fs.deliver(device, 0, b"content").unwrap();
    assert_eq!(bench.answers(), [(4, 0, b"content".to_vec())]);
    bench.fs.ready();
    assert_eq!(bench.answers(), [(6, -libc::ESTALE, vec![])]);
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        bench.add(name, 4096, &[]);
    }
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let (error, body) = bench.ask(op::READDIR, ROOT_ID, &read_body(offset, 40));
        assert_eq!(error, 0);
        if body.is_empty() {
            break;
        }
        assert_eq!(body.len(), 32);
        offset = abi::u64_at(&body, 8).unwrap();
        names.push(body[24] as char);
        // What goes in the middle of a listing does not disturb it.
        if names.len() == 3 {
            bench.fs.remove_device(1).unwrap();
        }
    }
    names.sort_unstable();
    assert!(names.starts_with(&['.', '.']) && names.ends_with(&['b', 'c']), "{names:?}");
}

/// Two chunks within a raw unit of 300 bytes, and one that is stored alone.
fn unit_of(first: &[u8; 100], second: &[u8; 200]) -> (Vec<Record>, Vec<u8>, Vec<u8>) {
    let mut records = vec![chunk(0, first), chunk(4096, second), chunk(8192, b"alone")];
    for record in &mut records[..2] {
        record.0[16..20].copy_from_slice(&300u32.to_le_bytes());
    }
    let stored = [&first[..], second].concat();
    (records, crate::units::tests::encode(300, &[(0, 0), (1, 100)], &[]), stored)
}

#[test]
fn a_unit_brings_all_its_chunks_and_wakes_who_waits_for_any() {
    let bench = Bench::new();
    let (records, units, stored) = unit_of(&[1; 100], &[2; 200]);
    let device = bench.add_with_units("dev", 12288, &records, &units);
    bench.fs.ready();
    bench.read("dev", 2, 0, 100);
    bench.read("dev", 4, 4096, 200);
    assert_eq!(*lock(&bench.misses), [(device, vec![0]), (device, vec![1])]);
    assert!(bench.fs.deliver(device, 0, &stored[1..]).is_err());
    assert!(bench.answers().is_empty());
    bench.fs.deliver(device, 1, &stored).unwrap();
    let mut answers = bench.answers();
    answers.sort();
    assert_eq!(answers, [(2, 0, vec![1; 100]), (4, 0, vec![2; 200])]);
    assert_eq!(bench.fs.missing(device, 0, 3).unwrap(), [2]);
    bench.fs.deliver(device, 0, &stored).unwrap();
    bench.fs.deliver(device, 2, b"alone").unwrap();
    let counters = bench.fs.counters();
    assert_eq!((counters.delivered, counters.rejected), (3, 1));
}

#[test]
fn a_wrong_chunk_of_a_unit_fails_only_those_who_want_it() {
    let bench = Bench::new();
    let (mut records, units, stored) = unit_of(&[1; 100], &[2; 200]);
    records[1].0[40] ^= 1;
    let device = bench.add_with_units("dev", 12288, &records, &units);
    bench.fs.ready();
    bench.read("dev", 2, 0, 100);
    bench.fs.deliver(device, 0, &stored).unwrap();
    assert_eq!(bench.answers(), [(2, 0, vec![1; 100])]);
    bench.read("dev", 4, 4096, 200);
    assert!(bench.fs.deliver(device, 1, &stored).is_err());
    assert!(bench.answers().is_empty());
    bench.fs.fail(device, &[1], Errno(libc::EIO)).unwrap();
    assert_eq!(bench.answers(), [(4, -libc::EIO, vec![])]);
    assert_eq!(bench.fs.counters().rejected, 2);
}

#[test]
fn a_unit_serves_another_device_whose_records_agree() {
    let bench = Bench::new();
    let (records, units, stored) = unit_of(&[1; 100], &[2; 200]);
    let one = bench.add_with_units("one", 12288, &records, &units);
    let other = bench.add_with_units("other", 12288, &records[..2], &units);
    bench.fs.ready();
    bench.read("one", 2, 0, 100);
    bench.read("other", 4, 0, 4296);
    bench.fs.deliver(one, 0, &stored).unwrap();
    let answered: Vec<_> = bench.answers().iter().map(|answer| (answer.0, answer.1)).collect();
    assert_eq!(answered, [(2, 0), (4, 0)]);
    assert!(bench.fs.missing(other, 0, 2).unwrap().is_empty());
}

#[test]
fn each_device_is_asked_for_a_chunk_once_and_whoever_has_it_first_serves_all() {
    let bench = Bench::new();
    let record = chunk(0, b"content");
    let (one, other) = (bench.add("one", 4096, &[record]), bench.add("other", 4096, &[record]));
    bench.fs.ready();
    for (name, unique) in [("one", 2), ("one", 4), ("other", 6), ("other", 8)] {
        bench.read(name, unique, 0, 7);
    }
    assert_eq!(*lock(&bench.misses), [(one, vec![0]), (other, vec![0])]);
    bench.fs.fail(one, &[0], Errno(libc::EIO)).unwrap();
    assert_eq!(bench.answers(), [(2, -libc::EIO, vec![]), (4, -libc::EIO, vec![])]);
    bench.read("one", 10, 0, 7);
    assert_eq!(lock(&bench.misses).len(), 3);
    bench.fs.deliver(other, 0, b"content").unwrap();
    let answered: Vec<_> = bench.answers().iter().map(|answer| (answer.0, answer.1)).collect();
    assert_eq!(answered, [(6, 0), (8, 0), (10, 0)]);
}

#[test]
fn devices_of_images_whose_tables_agree_share_them() {
    let bench = Bench::new();
    let records = [chunk(0, b"content")];
    let first = bench.try_add(("first", 10, "own"), 4096, &records, &[]).unwrap();
    let second = bench.try_add(("second", 11, "own"), 4096, &records, &[]).unwrap();
    let liar = bench.try_add(("liar", 12, "own"), 4096, &[chunk(0, b"another")], &[]).unwrap();
    let content = |handle| bench.fs.device(handle).unwrap().content.clone();
    assert!(Arc::ptr_eq(&content(first), &content(second)));
    assert!(!Arc::ptr_eq(&content(first), &content(liar)));
    bench.fs.remove_device(first).unwrap();
    assert_eq!(bench.fs.missing(second, 0, 1).unwrap(), [0]);
}

#[test]
fn reads_of_one_image_cannot_pile_up_until_others_find_no_room() {
    let bench = Bench::with_budget(16);
    let all: Vec<Record> = (0..20).map(|i: u64| chunk(i * 4096, &[i as u8])).collect();
    let greedy = bench.add("greedy", 20 * 4096, &all);
    let modest = bench.add("modest", 20 * 4096, &all);
    bench.fs.ready();
    for i in 0..20 {
        bench.read("greedy", 2 * i + 2, i * 4096, 1);
    }
    let refused = bench.answers();
    assert_eq!(refused.len(), 12);
    assert!(refused.iter().all(|answer| answer.1 == -libc::EIO));
    assert_eq!((bench.fs.counters().waiting, bench.fs.counters().shed), (8, 12));
    // A read that waits for several chunks takes as much as several reads.
    bench.read("modest", 100, 8 * 4096, 3 * 4096);
    bench.read("modest", 102, 12 * 4096, 3 * 4096);
    assert_eq!(bench.answers(), [(102, -libc::EIO, vec![])]);
    for i in 8..11 {
        bench.fs.deliver(modest, i, &[i as u8]).unwrap();
    }
    assert_eq!(bench.answers().len(), 1);
    bench.read("modest", 104, 8 * 4096, 1);
    assert_eq!(bench.answers(), [(104, 0, vec![8])]);
    // What no longer waits takes nothing.
    bench.fs.fail(greedy, &[0, 1, 2, 3, 4, 5, 6, 7], Errno(libc::EIO)).unwrap();
    assert_eq!(bench.answers().len(), 8);
    bench.read("greedy", 106, 0, 8 * 4096);
    assert!(bench.answers().is_empty());
    bench.send(op::INTERRUPT, 0, 107, &106u64.to_ne_bytes());
    bench.read("greedy", 108, 0, 8 * 4096);
    assert_eq!(bench.answers(), [(106, -libc::EINTR, vec![])]);
}
