//! The bridge between TypeScript and the native crates: argument checks, promises, error codes; no policy.
//!
//! `src/native/addon.ts` lists the same names in the same order.

use napi_derive::napi;

/// The version of the addon: that of the package it was built from.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
