//! A bounded queue of bytes between one writing and one reading thread.

use crate::error::{CodecError, Result};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

pub(crate) struct ByteQueue {
    limit: usize,
    state: Mutex<State>,
    /// Signalled at every change of the state.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    ended: bool,
    /// What everybody gets from now on.
    failure: Option<CodecError>,
}

impl ByteQueue {
    /// `push` waits while `limit` bytes or more are queued.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The failure, if there was one.
    pub fn check(&self) -> Result<()> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    pub fn push(&self, piece: Vec<u8>) -> Result<()> {
        let mut state = self.wait_while(|state| state.bytes >= self.limit)?;
        if state.ended {
            return Err(CodecError::State { problem: "written to after its end" });
        }
        state.bytes += piece.len();
        state.pieces.push_back(piece);
        self.changed.notify_all();
        Ok(())
    }

    /// The next piece; `None` after the last one.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        let mut state = self.wait_while(|state| state.pieces.is_empty() && !state.ended)?;
        let piece = state.pieces.pop_front();
        state.bytes -= piece.as_ref().map_or(0, Vec::len);
        self.changed.notify_all();
        Ok(piece)
    }

    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Wakes everybody with `failure`, now and later. The first failure stays.
    pub fn fail(&self, failure: CodecError) {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        state.pieces = VecDeque::new();
        state.bytes = 0;
        self.changed.notify_all();
    }

    fn wait_while(&self, busy: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let state = self
            .changed
            .wait_while(self.lock(), |state| state.failure.is_none() && busy(state))
            .expect("no user of the queue panicked");
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no user of the queue panicked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn hands_over_in_order_and_then_ends() {
        let queue = ByteQueue::new(10);
        thread::scope(|scope| {
            scope.spawn(|| {
                for byte in 0..100 {
                    queue.push(vec![byte; 3]).unwrap();
                }
                queue.end();
            });
            for byte in 0..100 {
                assert_eq!(queue.pop().unwrap(), Some(vec![byte; 3]));
            }
            assert_eq!(queue.pop().unwrap(), None);
        });
        assert!(matches!(queue.push(vec![1]), Err(CodecError::State { .. })));
    }

    #[test]
    fn the_first_failure_wakes_everybody_and_stays() {
        let closed = CodecError::Closed { subject: "the queue" };
        let (empty, full) = (ByteQueue::new(1), ByteQueue::new(1));
        full.push(vec![0; 2]).unwrap();
        thread::scope(|scope| {
            let popping = scope.spawn(|| empty.pop());
            let pushing = scope.spawn(|| full.push(vec![1]));
            thread::sleep(Duration::from_millis(20));
            for queue in [&empty, &full] {
                queue.fail(closed.clone());
                queue.fail(CodecError::State { problem: "a later one" });
            }
            assert_eq!(popping.join().unwrap(), Err(closed.clone()));
            assert_eq!(pushing.join().unwrap(), Err(closed.clone()));
        });
        assert_eq!(full.check(), Err(closed));
    }
}
