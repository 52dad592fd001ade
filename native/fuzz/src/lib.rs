//! The targets: one function for each kind of untrusted bytes. Damage must be an error: no panic, no hang, no memory on
//! somebody's say-so; and what is accepted must keep its promises.

mod tree;

use lacuna_blobfs::{BlobFs, BootId, Channel, DeviceOptions};
use lacuna_codec::{Compression, Compressor, LayerStream, UnitDecoder, ZranState, decode_chunk, decode_unit};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use tree::tree;

pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in `corpus`.
pub const TARGETS: [(&str, Target); 6] =
    [("layer", layer), ("chunk", chunk), ("unit", unit), ("tables", tables), ("requests", requests), ("tree", tree)];

/// More of a layer's content is not read: a bomb has shown by then that it is one.
const MAX_CONTENT: usize = 4 << 20;
/// Sizes that inputs may ask for.
const MAX_SIZE: usize = 1 << 20;

/// The first byte of an input chooses, the others are what is decoded.
fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(&first, rest)| (first, rest))
}

/// A size of three bytes.
fn size(data: &[u8]) -> Option<(usize, &[u8])> {
    let (size, rest) = data.split_first_chunk::<3>()?;
    Some((u32::from_le_bytes([size[0], size[1], size[2], 0]) as usize % (MAX_SIZE + 1), rest))
}

/// A layer's stream of any compression; an indexed one must be decodable from each of its checkpoints.
pub fn layer(data: &[u8]) {
    let Some((kind, stored)) = choice(data) else { return };
    let kinds = [Compression::None, Compression::Gzip, Compression::IndexedGzip, Compression::Zstd];
    let compression = kinds[usize::from(kind & 3)];
    let stream = LayerStream::new(compression);
    for piece in stored.chunks(usize::from(kind >> 2) * 61 + 1) {
        stream.write(piece).expect("the queue has room");
    }
    stream.end();
    let mut content = Vec::new();
    let mut buffer = vec![0; 100_000];
    while content.len() < MAX_CONTENT {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => content.extend_from_slice(&buffer[..length]),
            Err(_) => break,
        }
    }
    if compression != Compression::IndexedGzip {
        return;
    }
    let found = stream.checkpoints().expect("an indexed stream has them");
    for place in &found.places {
        let state = ZranState { window: &place.window, bits: place.bits, byte: place.byte };
        for mark in found.marks.iter().filter(|mark| mark.out_end >= place.out_offset).take(2) {
            let (start, end) = (place.out_offset as usize, mark.out_end as usize);
            let Some(expected) = content.get(start..end) else { break };
            let bytes = &stored[place.in_offset as usize..mark.in_end as usize];
            let mut out = Vec::new();
            decode_unit(bytes, UnitDecoder::Zran(state), end - start, &mut out).expect("a mark is reachable");
            assert!(out == expected, "another content from byte {start} on");
        }
    }
}

/// A chunk of any compressor; its digest is never right, so nothing may come out.
pub fn chunk(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let Some((size, stored)) = size(rest) else { return };
    let mut out = Vec::new();
    decode_chunk(stored, kind & 7, size, kind >> 7, &[0; 32], &mut out).expect_err("no content has this digest");
    assert!(out.is_empty());
}

/// A unit of any kind.
pub fn unit(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let Some((size, rest)) = size(rest) else { return };
    let Ok(compressor) = Compressor::try_from((kind >> 2) & 3) else { return };
    let mut out = Vec::new();
    let result = match kind & 3 {
        0 => decode_unit(rest, UnitDecoder::Batch(compressor), size, &mut out),
        1 => {
            let Some((key, rest)) = rest.split_first_chunk::<32>() else { return };
            let Some((iv, stored)) = rest.split_first_chunk::<16>() else { return };
            decode_unit(stored, UnitDecoder::Encrypted { key, iv, compressor }, size, &mut out)
        }
        _ => {
            let Some(([byte, window_size], rest)) = rest.split_first_chunk::<2>() else { return };
            // Two of many lengths are over the limit.
            let Some((window, stored)) = rest.split_at_checked(usize::from(*window_size) * 129) else { return };
            let state = ZranState { window, bits: kind >> 4, byte: *byte };
            decode_unit(stored, UnitDecoder::Zran(state), size, &mut out)
        }
    };
    assert_eq!(out.len(), if result.is_ok() { size } else { 0 });
}

/// A device's chunk table and units; what is accepted is asked for chunks and given something.
pub fn tables(data: &[u8]) {
    let Some((split, rest)) = choice(data) else { return };
    let Some((table, units)) = rest.split_at_checked(usize::from(split & 0x3f) * 64) else { return };
    with_device(table, units, |fs, device| {
        for chunk in fs.missing(device, 0, u32::MAX).expect("the device is there") {
            let _ = fs.deliver(device, chunk, units);
        }
    });
}

/// A request of the FUSE protocol, before and after all devices are there.
pub fn requests(data: &[u8]) {
    let table = [0u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0]
        .into_iter()
        .chain([0; 40])
        .collect::<Vec<u8>>();
    with_device(&table, &[], |fs, device| {
        let channel: Arc<dyn Channel> = Arc::new(Deaf);
        for ready in [false, true] {
            let mut rest = data;
            // Several, one behind the other, as long as each says of itself.
            for _ in 0..8 {
                let Some(length) = rest.first_chunk::<4>().map(|four| u32::from_ne_bytes(*four) as usize) else {
                    break;
                };
                let (request, behind) = rest.split_at(length.clamp(1, rest.len()));
                fs.handle(request, &channel);
                rest = behind;
            }
            if !ready {
                fs.ready();
            }
        }
        let _ = fs.deliver(device, 0, &[0; 9]);
    })
    .expect("this table is right");
}

struct Deaf;

impl Channel for Deaf {
    fn send(&self, parts: &[IoSlice]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let promised = parts[0].first_chunk::<4>().map(|four| u32::from_ne_bytes(*four) as usize);
        assert_eq!(promised, Some(length), "an answer is as long as its header says");
    }

    fn agreed(&self, _state: &[u8]) {}
}

/// Node id of the device, which requests of the corpus name.
const NODE: u64 = 0x4a9a_2a18_f461_fffc;

/// Runs `body` with a device of 1 MiB in a store that is new to it; None when the tables are refused.
fn with_device(table: &[u8], units: &[u8], body: impl FnOnce(&BlobFs, u32)) -> Option<()> {
    let directory = directory();
    let boot = BootId::parse("00112233-4455-6677-8899-aabbccddeeff")?;
    let fs = BlobFs::new(boot, Box::new(|_, _| {}));
    let (name, node, image) = ("dev", NODE, "image");
    let options =
        DeviceOptions { name, node, image, size: 1 << 20, table, units, shared_dir: directory, own_dir: directory };
    let device = fs.add_device(&options).ok()?;
    body(&fs, device);
    fs.remove_device(device).expect("it was added");
    for name in ["map", "data"] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    Some(())
}

/// A directory of this process.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("lacuna-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory can be written to");
        path
    })
}
