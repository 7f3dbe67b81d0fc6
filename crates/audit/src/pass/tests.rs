use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use unitrow_norms::Pool;

use super::*;

const WINDOWS: u64 = 12;
const ROW_BYTES: u64 = 4096;
/// The last window is not full.
const LEN: u64 = WINDOWS * WINDOW_BYTES - 5 * ROW_BYTES;

/// Runs a pass with SHA-256 over a file that is one tensor; `use_rows` gets the window that some rows begin in.
fn pass_over(test: &str, threads: usize, use_rows: impl Fn(u64) -> Result<(), Failure> + Sync) -> Passed {
    let path = std::env::temp_dir().join(format!("unitrow-pass-{}-{test}-{threads}", std::process::id()));
    let bytes: Vec<u8> = (0..LEN).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
    fs::write(&path, &bytes).unwrap();
    let source = Source::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut whole = Hashers::new(&[Algorithm::Sha256], LEN);
    whole.update(&bytes);
    let rows = Mutex::new(BTreeSet::new());
    let run = || {
        Pass {
            source: &source,
            mapping: None,
            watch: &Watch::default(),
            buffers: &Buffers::default(),
            parts: &[Part { tensor: 0, start: 0, len: LEN, row_bytes: ROW_BYTES }],
            sums: &Sums::default(),
            hash: Some(Algorithm::Sha256),
            data_start: None,
            use_rows: &|_, at, _| {
                use_rows(at / WINDOW_BYTES)?;
                assert!(rows.lock().unwrap().insert(at), "rows twice");
                Ok(())
            },
        }
        .run()
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| Pool::new(threads).unwrap().install(run)));
    let outcome = outcome.ok().map(|outcome| outcome.map(|hashed| hashed.file).map_err(|stopped| stopped.at));
    let rows = rows.into_inner().unwrap_or_default();
    Passed { outcome, rows, sha256: whole.finish().pop() }
}

struct Passed {
    /// `None` after a panic.
    outcome: Option<Result<Option<(Algorithm, String)>, u64>>,
    rows: BTreeSet<u64>,
    sha256: Option<(Algorithm, String)>,
}

/// Where windows begin.
fn starts(windows: u64) -> BTreeSet<u64> {
    (0..windows).map(|window| window * WINDOW_BYTES).collect()
}

#[test]
fn every_window_is_hashed_in_order_and_looked_at_once() {
    for threads in [1, 2, 3, 8] {
        let found = pass_over("whole", threads, |_| Ok(()));
        assert_eq!(found.outcome, Some(Ok(found.sha256)), "{threads} threads");
        assert_eq!(found.rows, starts(WINDOWS), "{threads} threads");
    }
}

#[test]
fn the_first_failure_is_told_and_all_before_it_was_looked_at() {
    for threads in [1, 2, 3, 8] {
        for first in [0, 3, WINDOWS - 1] {
            let fails = |window| window == first || window == 7;
            let found =
                pass_over(
                    "fails",
                    threads,
                    |window| if fails(window) { Err(Failure::Cancelled) } else { Ok(()) },
                );
            let first = first.min(7);
            assert_eq!(found.outcome, Some(Err(first * WINDOW_BYTES)), "{threads} threads");
            assert!(found.rows.is_superset(&starts(first)), "{threads} threads");
        }
    }
}

/// Whoever waits for a window must not wait for ever where the thread that had it is gone.
#[test]
fn a_panic_ends_the_pass() {
    for threads in [1, 2, 3, 8] {
        for bad in [0, 5, WINDOWS - 1] {
            let found = pass_over("panics", threads, |window| {
                assert!(window != bad, "as intended");
                Ok(())
            });
            assert_eq!(found.outcome, None, "{threads} threads");
        }
    }
}
