//! The blob file system for TypeScript. What it does is in `native/blobfs`.

use crate::args;
use crate::error::{BridgeError, Code, Outcome, Result, guarded};
use crate::promise::{promise, promised, run_aside};
use lacuna_blobfs::{BootId, Errno, Error, Pool, Session, SessionOptions};
use napi::Status;
use napi::bindgen_prelude::{Buffer, Env, Function, PromiseRaw, Uint32Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const MAX_THREADS: usize = 64;
const MAX_ERRNO: usize = 4095;
const MAX_INTEGER: usize = (1 << 53) - 1;

impl From<Error> for BridgeError {
    fn from(error: Error) -> Self {
        match error {
            Error::System(error) => error.into(),
            Error::Codec(error) => error.into(),
            Error::Format { .. } => Self::new(Code::Format, error.to_string()),
            Error::Usage(_) => Self::new(Code::Usage, error.to_string()),
            Error::NotFound(_) => Self::new(Code::NotFound, error.to_string()),
            Error::AlreadyExists(_) | Error::Holder(_) => Self::new(Code::Precondition, error.to_string()),
            Error::Closed => Self::new(Code::Aborted, error.to_string()),
        }
    }
}

/// See `Miss` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct Miss {
    pub device: u32,
    pub chunks: Vec<u32>,
}

/// See `BlobFsOptions` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct BlobFsOptions {
    pub mountpoint: String,
    pub holder_socket: String,
    pub threads: f64,
    pub workers: f64,
}

/// See `DeviceOptions` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct DeviceOptions {
    pub name: String,
    pub node: f64,
    pub image: String,
    pub size: f64,
    pub table: Buffer,
    pub units: Option<Buffer>,
    pub shared_dir: String,
    pub own_dir: String,
}

/// See `BlobFsCounters` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct BlobFsCounters {
    pub reads: f64,
    pub read_bytes: f64,
    pub hits: f64,
    pub misses: f64,
    pub resent: f64,
    pub taken_over: bool,
    pub delivered: f64,
    pub digest_failures: f64,
    pub errors: f64,
    pub shed: f64,
    pub waiting: f64,
    pub reverified: f64,
    pub store_errors: f64,
    pub connected: bool,
}

/// See `BlobFs` in addon.ts.
#[napi]
pub struct BlobFs {
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    fs: Arc<lacuna_blobfs::BlobFs>,
    session: Arc<Session>,
    pool: Arc<Pool>,
}

#[napi]
pub fn blob_fs<'env>(
    env: &'env Env,
    options: BlobFsOptions,
    on_miss: Function<'env, Miss, ()>,
) -> Result<PromiseRaw<'env, BlobFs>> {
    promised(env, || {
        let threads = args::integer("threads", options.threads, MAX_THREADS)?.max(1);
        let workers = args::integer("workers", options.workers, MAX_THREADS)?.max(1);
        // Strong: Node stays while the file system is open.
        let callback = on_miss.build_threadsafe_function::<Miss>().callee_handled::<false>().build()?;
        let on_miss = Box::new(move |device, chunks| {
            // Fails only while Node is ending; a successor is asked then.
            let _: Status = callback.call(Miss { device, chunks }, ThreadsafeFunctionCallMode::NonBlocking);
        });
        let (job, promise) = promise(env, move || {
            let fs = Arc::new(lacuna_blobfs::BlobFs::new(boot_id()?, on_miss));
            let pool = Arc::new(Pool::new(workers)?);
            let (mountpoint, holder_socket) = (&*options.mountpoint, &*options.holder_socket);
            let session = Arc::new(Session::start(&SessionOptions { mountpoint, holder_socket, threads }, &fs)?);
            Ok(BlobFs { open: Mutex::new(Some(Open { fs, session, pool })) })
        })?;
        run_aside(job)?;
        Ok(promise)
    })
}

/// The kernel's, or with LACUNA_TEST_HOOKS=1 the one in LACUNA_TEST_BOOT_ID: a reboot without rebooting.
fn boot_id() -> Outcome<BootId> {
    let named = std::env::var("LACUNA_TEST_HOOKS").is_ok_and(|value| value == "1");
    match std::env::var("LACUNA_TEST_BOOT_ID") {
        Ok(text) if named => {
            BootId::parse(&text).ok_or_else(|| BridgeError::usage(format!("LACUNA_TEST_BOOT_ID: {text}")))
        }
        _ => Ok(BootId::current()?),
    }
}

#[napi]
impl BlobFs {
    #[napi]
    pub fn add_device(&self, options: DeviceOptions) -> Result<u32> {
        guarded(|| {
            let size = args::integer("size", options.size, MAX_INTEGER)? as u64;
            let node = args::integer("node", options.node, MAX_INTEGER)? as u64;
            Ok(self.open()?.fs.add_device(&lacuna_blobfs::DeviceOptions {
                name: &options.name,
                node,
                image: &options.image,
                size,
                table: &options.table,
                units: options.units.as_deref().unwrap_or_default(),
                shared_dir: Path::new(&options.shared_dir),
                own_dir: Path::new(&options.own_dir),
            })?)
        })
    }

    #[napi]
    pub fn remove_device(&self, device: f64) -> Result<()> {
        guarded(|| Ok(self.open()?.fs.remove_device(index("device", device)?)?))
    }

    #[napi]
    pub fn ready(&self) -> Result<()> {
        guarded(|| {
            self.open()?.fs.ready();
            Ok(())
        })
    }

    #[napi]
    pub fn missing(&self, device: f64, first: f64, count: f64) -> Result<Uint32Array> {
        guarded(|| {
            let (device, first, count) = (index("device", device)?, index("first", first)?, index("count", count)?);
            Ok(Uint32Array::new(self.open()?.fs.missing(device, first, count)?))
        })
    }

    #[napi]
    pub fn deliver<'env>(&self, env: &'env Env, device: f64, chunk: f64, data: Buffer) -> Result<PromiseRaw<'env, ()>> {
        promised(env, || {
            let (device, chunk) = (index("device", device)?, index("chunk", chunk)?);
            let Open { fs, pool, .. } = self.open()?;
            let image = fs.image_of(device)?;
            let (job, promise) = promise(env, move || Ok(fs.deliver(device, chunk, &data)?))?;
            pool.run(image, job)?;
            Ok(promise)
        })
    }

    #[napi]
    pub fn fail(&self, device: f64, chunks: Vec<u32>, errno: f64) -> Result<()> {
        guarded(|| {
            let errno = match args::integer("errno", errno, MAX_ERRNO)? {
                0 => return Err(BridgeError::usage("errno: 0 is no error")),
                errno => Errno(errno as i32), // at most MAX_ERRNO
            };
            Ok(self.open()?.fs.fail(index("device", device)?, &chunks, errno)?)
        })
    }

    #[napi]
    pub fn counters(&self) -> Result<BlobFsCounters> {
        guarded(|| {
            let Open { fs, session, .. } = self.open()?;
            let counters = fs.counters();
            Ok(BlobFsCounters {
                reads: counters.reads as f64,
                read_bytes: counters.read_bytes as f64,
                hits: counters.hits as f64,
                misses: counters.misses as f64,
                resent: counters.resent as f64,
                taken_over: session.taken_over,
                delivered: counters.delivered as f64,
                digest_failures: counters.rejected as f64,
                errors: counters.errors as f64,
                shed: counters.shed as f64,
                waiting: counters.waiting as f64,
                reverified: counters.reverified as f64,
                store_errors: counters.store_errors as f64,
                connected: session.is_connected(),
            })
        })
    }

    #[napi]
    pub fn close<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, ()>> {
        promised(env, || {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (job, promise) = promise(env, move || {
                if let Some(Open { fs, session, pool }) = open {
                    session.stop();
                    // Lets Node go.
                    fs.stop_asking();
                    pool.close();
                }
                Ok(())
            })?;
            run_aside(job)?;
            Ok(promise)
        })
    }

    fn open(&self) -> Outcome<Open> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| Error::Closed.into())
    }
}

fn index(name: &str, value: f64) -> Outcome<u32> {
    // Not over u32::MAX after the check.
    Ok(args::integer(name, value, u32::MAX as usize)? as u32)
}
