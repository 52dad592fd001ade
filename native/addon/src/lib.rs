//! The bridge between TypeScript and the native crates: argument checks, promises, error codes; no policy.
//!
//! `src/native/addon.ts` lists the same names in the same order.

// In a test build napi's macro leaves the exports out, so clippy's --all-targets sees nobody who calls anything.
#![cfg_attr(test, allow(dead_code, unused_imports))]

mod args;
mod blobfs;
mod codec;
mod error;
mod lane;
mod promise;
mod resolve;
mod streams;
mod sys;
mod teardown;
mod treedir;
mod treewalk;

use error::{BridgeError, Result, guarded};
use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use promise::{promise, promised};

/// The version of the addon: that of the package it was built from.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// For tests of the bridge: must arrive as an INTERNAL error.
#[napi]
pub fn panic_for_test() -> Result<()> {
    guarded(|| panic!("on purpose"))
}

/// For tests of the bridge: must arrive as an INTERNAL rejection.
#[napi]
pub fn panic_for_test_async<'env>(env: &'env Env) -> Result<PromiseRaw<'env, ()>> {
    promised(env, || {
        let (job, promise) = promise(env, || panic!("on purpose"))?;
        std::thread::Builder::new().spawn(job).map_err(|error| BridgeError::system("start a thread", &error))?;
        Ok(promise)
    })
}
