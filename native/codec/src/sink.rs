//! A file that is written and hashed.

use crate::error::{CodecError, Result};
use crate::hashed::{Digested, Hashed};
use std::fs::File;
use std::io::Write;

pub struct FileSink {
    path: String,
    file: Option<File>,
    hashed: Hashed,
    /// After a failed write nothing else is written: the file has a hole or half a piece.
    failure: Option<CodecError>,
}

impl FileSink {
    /// Creates the file, or empties it.
    pub fn create(path: String) -> Result<Self> {
        let file = File::create(&path).map_err(|error| CodecError::io(format!("create {path}"), &error))?;
        Ok(Self { path, file: Some(file), hashed: Hashed::default(), failure: None })
    }

    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.open()?.write_all(data).map_err(|error| self.fail("write", &error))?;
        self.hashed.update(data);
        Ok(())
    }

    /// Of all that was appended so far.
    pub fn digested(&mut self) -> Result<Digested> {
        self.open()?;
        Ok(self.hashed.digested())
    }

    /// Closes the file, after fsync when `sync`.
    pub fn finish(&mut self, sync: bool) -> Result<Digested> {
        let file = self.open()?;
        if sync {
            file.sync_all().map_err(|error| self.fail("fsync", &error))?;
        }
        self.close();
        Ok(self.hashed.digested())
    }

    /// Closes the file as it is.
    pub fn close(&mut self) {
        self.file = None;
    }

    fn open(&mut self) -> Result<&mut File> {
        match (&self.failure, &mut self.file) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(file)) => Ok(file),
            (None, None) => Err(CodecError::State { problem: "the file is closed" }),
        }
    }

    fn fail(&mut self, op: &str, error: &std::io::Error) -> CodecError {
        let failure = CodecError::io(format!("{op} {}", self.path), error);
        self.failure = Some(failure.clone());
        failure
    }
}
