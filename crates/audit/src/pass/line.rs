//! Windows in the order of the file, for digests that need it.
//!
//! Hashing is what takes longest, so the thread that hashes does nothing else where others are free: they read windows
//! and look at their rows, a few windows ahead. Where none is free it does that too, window by window. It never begins
//! other work until the file is hashed, so that a long file does not wait for others.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::window::Loaded;
use super::{Fault, Pass};

/// Windows of one file that are read, looked at, wait, or are hashed.
const MOST: u64 = 4;

/// Windows that nobody has begun with from which another thread is asked for: waking one costs the thread that hashes
/// time.
const WORTH_WAKING: u64 = 2;

struct Line<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    /// The first window that nobody has begun with.
    next: u64,
    /// The first window that must not be begun yet.
    limit: u64,
    /// Windows to hash; `None` for one that could not be read or looked at, and for those behind it.
    ready: BTreeMap<u64, Option<Loaded<'a>>>,
    /// Whether a thread was asked for that has not come.
    asked: bool,
    /// Threads that came and have not left.
    serving: usize,
}

impl State<'_> {
    fn begin(&mut self) -> Option<u64> {
        if self.next >= self.limit {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

impl<'a> Line<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read a few windows and look at their rows. Not as long as there are any: a thread that came while it waits for
    /// something else would wait for this file's end.
    fn serve(&self, pass: &'a Pass<'a>, fault: &Fault) {
        let mut state = self.lock();
        state.asked = false;
        state.serving += 1;
        let leave = Leave(self);
        for _ in 0..MOST {
            let Some(index) = state.begin() else { break };
            drop(state);
            self.prepare(index, pass, fault);
            state = self.lock();
        }
        drop(state);
        drop(leave);
    }

    fn prepare(&self, index: u64, pass: &'a Pass<'a>, fault: &Fault) {
        let mut ready = Ready { line: self, index, loaded: None };
        ready.loaded = pass.prepare(index, fault);
    }

    /// The window of this index once it is ready. Meanwhile this thread prepares those behind it, and waits only where
    /// all that may be begun are in the hands of other threads.
    fn take(&self, index: u64, pass: &'a Pass<'a>, fault: &Fault) -> Option<Loaded<'a>> {
        let mut state = self.lock();
        loop {
            if let Some(loaded) = state.ready.remove(&index) {
                return loaded;
            }
            if let Some(other) = state.begin() {
                drop(state);
                self.prepare(other, pass, fault);
                state = self.lock();
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Let windows be begun up to a limit; whether another thread should be asked to.
    fn allow(&self, limit: u64) -> bool {
        let mut state = self.lock();
        state.limit = limit;
        let ask = !state.asked && limit.saturating_sub(state.next) >= WORTH_WAKING;
        state.asked |= ask;
        ask
    }

    /// Begin nothing more, and wait for what was begun: asleep, where the end of a scope would take up other work.
    fn close(&self) {
        let mut state = self.lock();
        state.limit = 0;
        while state.serving > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A window that is put in the line however its preparation ends, so that nobody waits for it for ever.
struct Ready<'l, 'a> {
    line: &'l Line<'a>,
    index: u64,
    loaded: Option<Loaded<'a>>,
}

impl Drop for Ready<'_, '_> {
    fn drop(&mut self) {
        self.line.lock().ready.insert(self.index, self.loaded.take());
        self.line.changed.notify_one();
    }
}

/// Counts a thread that came as gone, after a panic too.
struct Leave<'l, 'a>(&'l Line<'a>);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().serving -= 1;
        self.0.changed.notify_one();
    }
}

/// Give `hash` every window in order, as its offset and its bytes, and its rows to whoever takes them.
pub(super) fn run(pass: &Pass<'_>, fault: &Fault, mut hash: impl FnMut(u64, &[u8]) + Send) {
    let state = State { next: 0, limit: 0, ready: BTreeMap::new(), asked: false, serving: 0 };
    let line = Line { state: Mutex::new(state), changed: Condvar::new() };
    let windows = pass.windows();
    rayon::scope(|scope| {
        for index in 0..windows {
            if line.allow(windows.min(index + MOST)) {
                scope.spawn(|_| line.serve(pass, fault));
            }
            let Some(loaded) = line.take(index, pass, fault) else { break };
            hash(loaded.window.start, loaded.own());
            pass.leave(loaded);
        }
        line.close();
    });
}
