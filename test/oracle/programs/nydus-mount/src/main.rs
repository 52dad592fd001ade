//! Mounts a RAFS image through Nydus's own reader: what we write is right when Nydus shows the same tree.
//!
//! usage: nydus-mount BOOTSTRAP BLOB_DIR CACHE_DIR MOUNTPOINT
//!
//! Prints `mounted` once the file system answers, serves until SIGTERM or SIGINT, then unmounts.

use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;

use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::api::{Vfs, VfsOptions};
use fuse_backend_rs::transport::{FuseChannel, FuseSession};
use nydus_api::ConfigV2;
use nydus_rafs::fs::Rafs;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// nydusd's configuration for blobs in a local directory: no prefetch, so only what is read is decoded.
fn config(blob_dir: &str, cache_dir: &str) -> std::io::Result<ConfigV2> {
    ConfigV2::from_str(&format!(
        r#"
        version = 2
        id = "oracle"
        [backend]
        type = "localfs"
        [backend.localfs]
        dir = {blob_dir:?}
        [cache]
        type = "filecache"
        [cache.filecache]
        work_dir = {cache_dir:?}
        [rafs]
        mode = "direct"
        enable_xattr = true
        [rafs.prefetch]
        enable = false
        "#
    ))
}

fn serve(server: &Server<Arc<Vfs>>, channel: &mut FuseChannel) -> Result<(), String> {
    while let Some((reader, writer)) = channel.get_request().map_err(|error| error.to_string())? {
        match server.handle_message(reader, writer.into(), None, None) {
            // The reader of a file went away before its answer; the next request is fine.
            Err(fuse_backend_rs::Error::EncodeMessage(error))
                if error.raw_os_error() == Some(libc::ENOENT) => {}
            // The connection is gone: unmounted or aborted from outside.
            Err(fuse_backend_rs::Error::EncodeMessage(error))
                if error.raw_os_error() == Some(libc::EBADF) =>
            {
                break
            }
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn run(
    bootstrap: &str,
    blob_dir: &str,
    cache_dir: &str,
    mountpoint: &str,
) -> Result<(), Box<dyn Error>> {
    let config = Arc::new(config(blob_dir, cache_dir)?);
    let (mut rafs, reader) = Rafs::new(&config, "/", Path::new(bootstrap))?;
    rafs.import(reader, None)?;
    let vfs = Vfs::new(VfsOptions::default());
    vfs.mount(Box::new(rafs), "/")?;
    let server = Arc::new(Server::new(Arc::new(vfs)));

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut session = FuseSession::new(Path::new(mountpoint), "nydus-oracle", "", true)?;
    session.mount()?;
    let session = Arc::new(Mutex::new(session));
    let mut channel = session.lock().unwrap().new_channel()?;
    let served = thread::spawn(move || serve(&server, &mut channel));

    let waker = Arc::clone(&session);
    thread::spawn(move || {
        signals.forever().next();
        let _ = waker.lock().unwrap().wake();
    });

    println!("mounted");
    let result = served.join().map_err(|_| "the serving thread panicked")?;
    session.lock().unwrap().umount()?;
    Ok(result?)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, blob_dir, cache_dir, mountpoint] = arguments.as_slice() else {
        eprintln!("usage: nydus-mount BOOTSTRAP BLOB_DIR CACHE_DIR MOUNTPOINT");
        std::process::exit(2);
    };
    if let Err(error) = run(bootstrap, blob_dir, cache_dir, mountpoint) {
        eprintln!("nydus-mount: {error}");
        std::process::exit(1);
    }
}
