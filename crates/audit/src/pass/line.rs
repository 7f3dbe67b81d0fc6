//! Windows in the order of the file, for digests that need it.
//!
//! One thread reads and hashes window after window and puts them in a line, from which any free thread takes them to
//! look at their rows. Where none is free, the thread that hashes looks at them itself, while they are in its cache. It
//! never begins other work meanwhile, so that a long file does not wait for others.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::window::Loaded;
use super::{Fault, Pass};

/// Windows of one file that wait or are looked at.
const MOST: usize = 3;

#[derive(Default)]
struct Line<'a> {
    state: Mutex<State<'a>>,
    done: Condvar,
}

#[derive(Default)]
struct State<'a> {
    waiting: VecDeque<Loaded<'a>>,
    /// Windows that some thread looks at.
    taken: usize,
}

impl<'a> Line<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look at the window that waits longest; false if none does.
    fn serve(&self, pass: &'a Pass<'a>, fault: &Fault) -> bool {
        let mut state = self.lock();
        let Some(loaded) = state.waiting.pop_front() else { return false };
        state.taken += 1;
        drop(state);
        let leave = Leave(self);
        let index = loaded.window.index();
        if !fault.is_before(index) {
            fault.keep(index, pass.look(&loaded));
        }
        pass.leave(loaded);
        drop(leave);
        true
    }

    /// Help until fewer than `most` windows wait or are looked at.
    fn shrink(&self, most: usize, pass: &'a Pass<'a>, fault: &Fault) {
        loop {
            let state = self.lock();
            if state.waiting.len() + state.taken < most {
                return;
            }
            if state.waiting.is_empty() {
                // Other threads have them all; none of them waits for anything.
                drop(self.done.wait(state).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(state);
                self.serve(pass, fault);
            }
        }
    }
}

/// Counts a window as done, after a panic too.
struct Leave<'l, 'a>(&'l Line<'a>);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().taken -= 1;
        self.0.done.notify_one();
    }
}

/// Give `hash` every window in order, as its offset and its bytes, and the rows in them to whoever is free.
pub(super) fn run(pass: &Pass<'_>, fault: &Fault, mut hash: impl FnMut(u64, &[u8]) + Send) {
    let line = Line::default();
    rayon::scope(|scope| {
        for index in 0..pass.windows() {
            if fault.is_before(index) {
                break;
            }
            match pass.load(index) {
                Ok(loaded) => {
                    hash(loaded.window.start, loaded.own());
                    line.lock().waiting.push_back(loaded);
                    scope.spawn(|_| {
                        line.serve(pass, fault);
                    });
                    line.shrink(MOST, pass, fault);
                }
                Err(failure) => fault.keep(index, Err(failure)),
            }
        }
        line.shrink(1, pass, fault);
    });
}
