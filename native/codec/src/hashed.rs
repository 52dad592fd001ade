//! Running SHA-256 with a count.

use crate::error::hex;
use sha2::{Digest, Sha256};

/// What went by: its digest and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Lower-case hex.
    pub sha256: String,
    pub size: u64,
}

/// A running digest and count.
#[derive(Clone, Default)]
pub struct Hashed {
    hash: Sha256,
    size: u64,
}

impl Hashed {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Of all so far; more may follow.
    pub fn digested(&self) -> Digested {
        Digested { sha256: hex(&self.hash.clone().finalize()), size: self.size }
    }
}
