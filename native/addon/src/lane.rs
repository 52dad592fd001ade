//! Work that has to happen in order, off the JavaScript thread and off libuv's four threads: what waits for a peer
//! (a full queue, missing input) would keep file reads and name lookups of the whole process waiting.

use crate::error::{BridgeError, Code, Outcome};
use crate::promise::{Job, promise};
use napi::bindgen_prelude::{Env, PromiseRaw, ToNapiValue};
use std::sync::mpsc;
use std::thread;

/// A thread that runs one job after the other. It ends when the lane is dropped and the last job is done.
pub struct Lane(mpsc::Sender<Job>);

impl Lane {
    /// `name` is what `ps -L` shows; at most 15 bytes.
    pub fn new(name: &str) -> Outcome<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || jobs.iter().for_each(|job| job()))
            .map_err(|error| BridgeError::system("start a thread", &error))?;
        Ok(Self(sender))
    }

    /// A promise of what `work` gives, after all that was asked of this lane before.
    pub fn run<'env, T, W>(&self, env: &'env Env, work: W) -> Outcome<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        W: FnOnce() -> Outcome<T> + Send + 'static,
    {
        let (job, promise) = promise(env, work)?;
        self.post(job)?;
        Ok(promise)
    }

    /// Runs `job` in its turn; nobody learns when.
    pub fn post(&self, job: Job) -> Outcome<()> {
        self.0.send(job).map_err(|_| BridgeError::new(Code::Internal, "a native thread is gone"))
    }
}
