//! What the holder keeps, and its commands. No I/O.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

const MAX_SLOTS: usize = 64;
const MAX_NAME: usize = 64;
/// In hex digits: 1 KiB.
const MAX_STATE: usize = 2048;

struct Slot {
    fd: OwnedFd,
    state: String,
}

#[derive(Default)]
pub struct Slots(BTreeMap<String, Slot>);

/// What a client gets.
pub enum Answer<'a> {
    Line(String),
    Descriptor(String, &'a OwnedFd),
    Quit,
}

impl Answer<'_> {
    pub fn parts(&self) -> (&str, Option<&OwnedFd>) {
        match self {
            Answer::Line(line) => (line, None),
            Answer::Descriptor(line, fd) => (line, Some(fd)),
            Answer::Quit => ("OK\n", None),
        }
    }
}

impl Slots {
    /// Carries out one request; `fd` is the descriptor that came with it.
    pub fn handle(&mut self, line: &str, fd: Option<OwnedFd>) -> Answer<'_> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (words.as_slice(), fd) {
            (["PUT", name], Some(fd)) => self.put(name, "", fd),
            (["PUT", name, state], Some(fd)) => self.put(name, state, fd),
            (["PUT", ..], None) => refuse("PUT needs a descriptor"),
            (["GET", name], _) => match self.0.get(*name) {
                Some(slot) => Answer::Descriptor(format!("OK {}\n", slot.state), &slot.fd),
                None => none(),
            },
            (["STATE", _, state], _) if !is_state(state) => refuse("bad state"),
            (["STATE", name, state], _) => match self.0.get_mut(*name) {
                Some(slot) => {
                    slot.state = (*state).to_owned();
                    ok()
                }
                None => none(),
            },
            (["DROP", name], _) => {
                self.0.remove(*name);
                ok()
            }
            (["LIST"], _) => {
                let names: String = self.0.keys().map(|name| format!(" {name}")).collect();
                Answer::Line(format!("OK{names}\n"))
            }
            (["PID"], _) => Answer::Line(format!("OK {}\n", std::process::id())),
            (["QUIT"], _) => Answer::Quit,
            _ => refuse("unknown request"),
        }
    }

    fn put(&mut self, name: &str, state: &str, fd: OwnedFd) -> Answer<'_> {
        if !is_name(name) {
            return refuse("bad name");
        }
        if !state.is_empty() && !is_state(state) {
            return refuse("bad state");
        }
        if self.0.len() >= MAX_SLOTS && !self.0.contains_key(name) {
            return refuse("full");
        }
        self.0.insert(name.to_owned(), Slot { fd, state: state.to_owned() });
        ok()
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_state(state: &str) -> bool {
    (1..=MAX_STATE).contains(&state.len()) && state.bytes().all(|b| b.is_ascii_hexdigit())
}

fn ok<'a>() -> Answer<'a> {
    Answer::Line("OK\n".to_owned())
}

fn none<'a>() -> Answer<'a> {
    Answer::Line("NONE\n".to_owned())
}

fn refuse<'a>(reason: &str) -> Answer<'a> {
    Answer::Line(format!("ERR {reason}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn fd() -> Option<OwnedFd> {
        Some(File::open("/dev/null").unwrap().into())
    }

    fn said(answer: &Answer) -> (String, bool) {
        let (line, fd) = answer.parts();
        (line.to_owned(), fd.is_some())
    }

    #[test]
    fn a_descriptor_is_kept_with_its_state_until_it_is_dropped() {
        let mut slots = Slots::default();
        assert_eq!(said(&slots.handle("GET fuse", None)), ("NONE\n".into(), false));
        assert_eq!(said(&slots.handle("PUT fuse", fd())), ("OK\n".into(), false));
        assert_eq!(said(&slots.handle("GET fuse", None)), ("OK \n".into(), true));
        assert_eq!(said(&slots.handle("STATE fuse 00ff", None)), ("OK\n".into(), false));
        assert_eq!(said(&slots.handle("GET fuse", None)), ("OK 00ff\n".into(), true));
        assert_eq!(said(&slots.handle("PUT b 01", fd())), ("OK\n".into(), false));
        assert_eq!(said(&slots.handle("LIST", None)), ("OK b fuse\n".into(), false));
        assert_eq!(said(&slots.handle("DROP fuse", None)), ("OK\n".into(), false));
        assert_eq!(said(&slots.handle("STATE fuse 00", None)), ("NONE\n".into(), false));
        assert!(matches!(slots.handle("QUIT", None), Answer::Quit));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut slots = Slots::default();
        let long = "x".repeat(65);
        let state = "0".repeat(2049);
        for line in ["", "put a", "GET", "PUT a/b", &format!("PUT {long}"), &format!("PUT a {state}"), "PUT a xyz"] {
            assert!(said(&slots.handle(line, fd())).0.starts_with("ERR "), "{line}");
        }
        assert!(said(&slots.handle("PUT a", None)).0.starts_with("ERR "));
        for n in 0..64 {
            assert_eq!(said(&slots.handle(&format!("PUT n{n}"), fd())).0, "OK\n");
        }
        assert_eq!(said(&slots.handle("PUT more", fd())).0, "ERR full\n");
        assert_eq!(said(&slots.handle("PUT n1 00", fd())).0, "OK\n");
    }
}
