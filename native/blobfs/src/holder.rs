//! The holder's client. The protocol is described in `native/holder/src/main.rs`.

use crate::error::{Error, Result};
use lacuna_sys::{SysError, recv_with_fd, send_with_fd};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The holder answers in microseconds; it serves one client after the other and gives each two seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 8192;

pub struct Holder {
    socket: String,
}

/// A descriptor and the state that was stored with it.
pub struct Held {
    pub fd: OwnedFd,
    pub state: Vec<u8>,
}

impl Holder {
    pub fn new(socket: &str) -> Holder {
        Holder { socket: socket.to_owned() }
    }

    pub fn put(&self, name: &str, fd: BorrowedFd) -> Result<()> {
        self.expect_ok(&format!("PUT {name}"), Some(fd))
    }

    pub fn get(&self, name: &str) -> Result<Option<Held>> {
        match self.ask(&format!("GET {name}"), None)? {
            (answer, _) if answer == "NONE" => Ok(None),
            (answer, Some(fd)) => {
                let state = answer.strip_prefix("OK").and_then(|hex| decode_hex(hex.trim()));
                Ok(Some(Held { fd, state: state.ok_or_else(|| unexpected(&answer))? }))
            }
            (answer, None) => Err(unexpected(&answer)),
        }
    }

    pub fn set_state(&self, name: &str, state: &[u8]) -> Result<()> {
        let hex: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect_ok(&format!("STATE {name} {hex}"), None)
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        self.expect_ok(&format!("DROP {name}"), None)
    }

    fn expect_ok(&self, request: &str, fd: Option<BorrowedFd>) -> Result<()> {
        match self.ask(request, fd)? {
            (answer, _) if answer == "OK" => Ok(()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    fn ask(&self, request: &str, fd: Option<BorrowedFd>) -> Result<(String, Option<OwnedFd>)> {
        let failed = |e: &std::io::Error| SysError::from_io("ask holder", self.socket.clone(), e);
        let mut socket = UnixStream::connect(&self.socket).map_err(|e| failed(&e))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
        // Far below what a socket takes at once.
        send_with_fd(&socket, format!("{request}\n").as_bytes(), fd)?;
        let mut buffer = vec![0; MAX_ANSWER];
        let (n, fd) = recv_with_fd(&socket, &mut buffer)?;
        buffer.truncate(n);
        // One answer, then the holder closes.
        socket.by_ref().take(MAX_ANSWER as u64).read_to_end(&mut buffer).map_err(|e| failed(&e))?;
        let answer = String::from_utf8_lossy(&buffer);
        match answer.strip_suffix('\n') {
            Some(answer) => Ok((answer.trim_end().to_owned(), fd)),
            None => Err(unexpected(&answer)),
        }
    }
}

fn unexpected(answer: &str) -> Error {
    Error::Holder(format!("unexpected answer {answer:?}"))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
