//! The end of a JavaScript environment while native threads work for it.
//!
//! A worker thread of Node may be terminated at any moment, and its buffers are freed with it, whoever holds
//! references to them. So its end waits until no job works on them any more, and what waits for JavaScript is woken.

use crate::error::Outcome;
use napi::bindgen_prelude::Env;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};

thread_local! {
    /// Of the environment that lives on this thread.
    static JOBS: Arc<Jobs> = Arc::default();
}

#[derive(Default)]
struct Jobs {
    state: Mutex<State>,
    /// Signalled when a job is over.
    over: Condvar,
}

#[derive(Default)]
struct State {
    count: usize,
    hooked: bool,
    waits: Vec<Weak<dyn Waits>>,
}

/// An object on which jobs wait for what JavaScript does next.
pub trait Waits: Send + Sync {
    /// Ends all waits, now and later.
    fn wake(&self);
}

/// A job that works for an environment; the environment does not end before this is dropped.
pub struct UnderWay(Arc<Jobs>);

/// To be called on the environment's thread, before the job is handed to another one.
pub fn enter(env: &Env) -> Outcome<UnderWay> {
    JOBS.with(|jobs| {
        hook(env, jobs)?;
        jobs.lock().count += 1;
        Ok(UnderWay(Arc::clone(jobs)))
    })
}

/// `object` is woken when the environment ends. To be called on the environment's thread.
pub fn wake_at_end(env: &Env, object: Weak<dyn Waits>) -> Outcome<()> {
    JOBS.with(|jobs| {
        hook(env, jobs)?;
        let mut state = jobs.lock();
        state.waits.retain(|known| known.strong_count() > 0);
        state.waits.push(object);
        Ok(())
    })
}

fn hook(env: &Env, jobs: &Arc<Jobs>) -> Outcome<()> {
    if !std::mem::replace(&mut jobs.lock().hooked, true) {
        env.add_env_cleanup_hook(Arc::clone(jobs), |jobs| jobs.end())?;
    }
    Ok(())
}

impl Jobs {
    fn end(&self) {
        let waits = {
            let mut state = self.lock();
            state.hooked = false;
            std::mem::take(&mut state.waits)
        };
        for object in waits.iter().filter_map(Weak::upgrade) {
            object.wake();
        }
        drop(self.over.wait_while(self.lock(), |state| state.count > 0).expect("no job panicked while counting"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no job panicked while counting")
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().count -= 1;
        self.0.over.notify_all();
    }
}
