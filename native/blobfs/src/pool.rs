//! A fixed number of threads for work that JavaScript waits for.

use crate::error::{Error, Result};
use crate::sync::lock;
use lacuna_sys::SysError;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

pub type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    changed: Condvar,
}

pub struct Pool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    pub fn new(threads: usize) -> Result<Pool> {
        let pool = Pool { queue: Arc::default(), threads: Mutex::default() };
        for _ in 0..threads {
            let queue = pool.queue.clone();
            lock(&pool.threads).push(spawn("lacuna-worker", move || queue.work())?);
        }
        Ok(pool)
    }

    /// Queues a job. How many are queued is the caller's to bound.
    pub fn run(&self, job: Job) -> Result<()> {
        let mut queue = lock(&self.queue.jobs);
        if queue.1 {
            return Err(Error::Closed);
        }
        queue.0.push_back(job);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Ends the threads after all that was queued is done.
    pub fn close(&self) {
        lock(&self.queue.jobs).1 = true;
        self.queue.changed.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // Jobs do not panic through: see `work`.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn work(&self) {
        loop {
            let mut queue = lock(&self.jobs);
            let job = loop {
                match queue.0.pop_front() {
                    Some(job) => break job,
                    None if queue.1 => return,
                    None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            // Jobs report their own panics; this one keeps the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

/// A named thread that takes none of the process's signals: they are for the host program's threads.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let run = move || {
        // SAFETY: an all-zero set is valid and then filled; only this thread's mask is changed.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
        body();
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    Ok(started.map_err(|e| SysError::from_io("start thread", name, &e))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn all_jobs_are_done_before_close_returns_even_if_one_panics() {
        let pool = Pool::new(2).unwrap();
        let done = Arc::new(AtomicU32::new(0));
        for n in 0..100 {
            let done = done.clone();
            pool.run(Box::new(move || {
                assert_ne!(n, 50, "on purpose");
                done.fetch_add(1, Ordering::Relaxed);
            }))
            .unwrap();
        }
        pool.close();
        assert_eq!(done.load(Ordering::Relaxed), 99);
        assert!(matches!(pool.run(Box::new(|| {})), Err(Error::Closed)));
    }
}
