//! Lookups of host names for TypeScript, each on a thread of its own: a name server that does not answer holds that thread
//! for half a minute, and Node's own few ones serve files as well.

use crate::error::{BridgeError, Code, Result};
use crate::promise::run_aside;
use crate::sys::aside;
use crate::teardown::{Waits, wake_at_end};
use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

type Found = std::result::Result<Vec<IpAddr>, i32>;

/// See `Resolved` in addon.ts.
#[napi(object, use_nullable = true)]
pub struct Resolved {
    pub addresses: Vec<String>,
    pub failure: i32,
}

/// A lookup under way. The thread that blocks in it cannot be stopped, so the end of Node does not wait for that one but
/// for one that waits here.
#[derive(Default)]
struct Lookup {
    /// None for good when Node ends.
    found: Mutex<Option<Option<Found>>>,
    settled: Condvar,
}

impl Lookup {
    fn settle(&self, found: Option<Found>) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
        self.settled.notify_all();
    }

    fn wait(&self) -> Option<Found> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = self.settled.wait_while(found, |found| found.is_none()).unwrap_or_else(PoisonError::into_inner);
        found.take().flatten()
    }
}

impl Waits for Lookup {
    fn wake(&self) {
        self.settle(None);
    }
}

#[napi]
pub fn resolve<'env>(env: &'env Env, name: String) -> Result<PromiseRaw<'env, Resolved>> {
    let lookup = Arc::<Lookup>::default();
    let weak: Weak<Lookup> = Arc::downgrade(&lookup);
    wake_at_end(env, weak)?;
    aside(env, move || {
        let blocked = Arc::clone(&lookup);
        run_aside(move || blocked.settle(Some(lacuna_sys::resolve(&name))))?;
        match lookup.wait() {
            Some(Ok(found)) => Ok(Resolved { addresses: found.iter().map(ToString::to_string).collect(), failure: 0 }),
            Some(Err(failure)) => Ok(Resolved { addresses: Vec::new(), failure }),
            None => Err(BridgeError::new(Code::Aborted, "aborted")),
        }
    })
}
