//! A fixed number of threads for work that JavaScript waits for. Owners of jobs take turns, so that the work of one image
//! does not wait behind all that another one has brought.

use crate::error::{Error, Result};
use crate::sync::lock;
use lacuna_sys::SysError;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

pub type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Jobs {
    /// By owner; none is empty.
    queues: HashMap<Arc<str>, VecDeque<Job>>,
    /// Owners with jobs, the next one first.
    turns: VecDeque<Arc<str>>,
    is_closed: bool,
}

impl Jobs {
    fn push(&mut self, owner: Arc<str>, job: Job) {
        let queue = self.queues.entry(owner.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(owner);
        }
        queue.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let owner = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&owner)?;
        let job = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        job
    }
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
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

    /// Queues a job of `owner`. How many are queued is the caller's to bound.
    pub fn run(&self, owner: Arc<str>, job: Job) -> Result<()> {
        let mut jobs = lock(&self.queue.jobs);
        if jobs.is_closed {
            return Err(Error::Closed);
        }
        jobs.push(owner, job);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Ends the threads after all that was queued is done.
    pub fn close(&self) {
        lock(&self.queue.jobs).is_closed = true;
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
            let mut jobs = lock(&self.jobs);
            let job = loop {
                match jobs.pop() {
                    Some(job) => break job,
                    None if jobs.is_closed => return,
                    None => jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(jobs);
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
            pool.run(
                "a".into(),
                Box::new(move || {
                    assert_ne!(n, 50, "on purpose");
                    done.fetch_add(1, Ordering::Relaxed);
                }),
            )
            .unwrap();
        }
        pool.close();
        assert_eq!(done.load(Ordering::Relaxed), 99);
        assert!(matches!(pool.run("a".into(), Box::new(|| {})), Err(Error::Closed)));
    }

    #[test]
    fn owners_take_turns() {
        let mut jobs = Jobs::default();
        let ran: Arc<Mutex<Vec<&str>>> = Arc::default();
        for owner in ["a", "a", "a", "b", "c", "b"] {
            let ran = ran.clone();
            jobs.push(owner.into(), Box::new(move || lock(&ran).push(owner)));
        }
        while let Some(job) = jobs.pop() {
            job();
        }
        assert_eq!(*lock(&ran), ["a", "b", "c", "a", "b", "a"]);
        assert!(jobs.queues.is_empty() && jobs.turns.is_empty());
    }
}
