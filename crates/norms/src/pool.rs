//! The threads that parallel passes run on.

use std::sync::{Mutex, PoisonError};

use crate::Error;

/// A fixed set of worker threads.
///
/// Small work stays on the caller's thread.
#[derive(Debug)]
pub struct Pool(Option<rayon::ThreadPool>);

impl Pool {
    /// Threads of this process: `UNITROW_NUM_THREADS` where it is set to a number from 1 to 1024, else what the
    /// affinity mask and the control group leave.
    ///
    /// Started at the first call, and again in a process that was forked since, because threads do not
    /// survive a fork. Where threads cannot be started, work runs on the calling thread.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: Mutex<Option<(u32, &'static Pool)>> = Mutex::new(None);
        let process = std::process::id();
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        match *global {
            Some((owner, pool)) if owner == process => pool,
            _ => {
                let pool = Box::leak(Box::new(Self::new(default_threads()).unwrap_or(Self(None))));
                *global = Some((process, pool));
                pool
            }
        }
    }

    /// A pool of exactly `threads` workers; 0 counts as 1.
    ///
    /// # Errors
    /// [`Error::Threads`] where the operating system refuses.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let threads = threads.max(1);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("unitrow-{index}"))
            .build()
            .map(|pool| Self(Some(pool)))
            .map_err(|error| Error::Threads { threads, message: error.to_string() })
    }

    /// How many threads work here.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `job` inside the pool, where rayon's parallel iterators use it.
    pub fn install<R: Send>(&self, job: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(job),
            None => job(),
        }
    }
}

fn default_threads() -> usize {
    (threads_asked_for().and_then(Result::ok))
        // Reads the affinity mask and both generations of control groups.
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

/// More than this is taken for a mistake: to start as many takes longer than most work.
pub const MOST_THREADS: usize = 1024;

/// What `UNITROW_NUM_THREADS` says, where it is set: a number of threads, or a text that is none and is ignored.
#[must_use]
pub fn threads_asked_for() -> Option<Result<usize, String>> {
    let text = std::env::var_os("UNITROW_NUM_THREADS")?.to_string_lossy().into_owned();
    let threads = text.trim().parse().ok().filter(|threads| (1..=MOST_THREADS).contains(threads));
    Some(threads.ok_or(text))
}
