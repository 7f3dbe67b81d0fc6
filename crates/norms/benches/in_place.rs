//! The operations that write, beside a copy of as many bytes.
//!
//! `cargo bench -p unitrow-norms --bench in_place`; one thread.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use bytemuck::cast_slice_mut;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use unitrow_norms::{
    Adam, AdamTensors, Dtype, Normalize, Rows, RowsMut, adam_step, normalize_rows, remove_parallel,
};

fn main() {
    divan::Divan::from_args().sample_count(15).main();
}

/// The shape of a released transcoder's decoder.
const ROWS: usize = 16384;
const LEN: usize = 2304;

/// Where the elements of a row lie.
#[derive(Debug, Clone, Copy)]
enum Axis {
    Last,
    Strided,
    /// The last axis of few enough rows for the second-level cache: arithmetic alone.
    LastInCache,
}

const AXES: [Axis; 3] = [Axis::Last, Axis::Strided, Axis::LastInCache];

impl Axis {
    fn shape(self) -> (usize, usize, usize) {
        match self {
            Self::Last => (ROWS, LEN, 1),
            Self::Strided => (1, LEN, ROWS),
            Self::LastInCache => (8, LEN, 1),
        }
    }

    fn count(self) -> usize {
        let (outer, len, inner) = self.shape();
        outer * len * inner
    }

    fn rows(self, bytes: &[u8]) -> Rows<'_> {
        let (outer, len, inner) = self.shape();
        Rows::contiguous(bytes, Dtype::F32, outer, len, inner).unwrap()
    }

    fn rows_mut(self, bytes: &mut [u8]) -> RowsMut<'_> {
        let (outer, len, inner) = self.shape();
        RowsMut::contiguous(bytes, Dtype::F32, outer, len, inner).unwrap()
    }
}

/// Numbers between -1 and 1.
fn values(mut state: u64, count: usize) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1_u32 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[divan::bench]
fn copy(bencher: Bencher) {
    let from = values(1, ROWS * LEN);
    let mut to = from.clone();
    bencher.counter(BytesCount::new(size_of_val(&from[..]))).bench_local(|| {
        black_box(&mut to).copy_from_slice(black_box(&from));
    });
}

#[divan::bench(args = AXES)]
fn normalize(bencher: Bencher, axis: Axis) {
    let original = values(1, axis.count());
    // Unit rows would be left alone: every call starts from the same rows.
    bencher
        .with_inputs(|| original.clone())
        .input_counter(|values| BytesCount::new(size_of_val(&values[..])))
        .bench_local_refs(|values| {
            normalize_rows(axis.rows_mut(cast_slice_mut(values)), Normalize::default(), None).unwrap()
        });
}

#[divan::bench(args = AXES)]
fn project(bencher: Bencher, axis: Axis) {
    let (mut grad, rows) = (values(1, axis.count()), values(2, axis.count()));
    bencher.counter(BytesCount::new(2 * size_of_val(&rows[..]))).bench_local(|| {
        let rows = axis.rows(bytemuck::cast_slice(&rows));
        remove_parallel(axis.rows_mut(cast_slice_mut(&mut grad)), rows, None).unwrap()
    });
}

#[divan::bench(args = AXES.into_iter().flat_map(|axis| [(axis, true), (axis, false)]))]
fn adam(bencher: Bencher, (axis, unit_norm): (Axis, bool)) {
    let (mut params, grads) = (values(1, axis.count()), values(2, axis.count()));
    let (mut averages, mut squares) = (vec![0.0_f32; axis.count()], vec![0.0_f32; axis.count()]);
    normalize_rows(axis.rows_mut(cast_slice_mut(&mut params)), Normalize::default(), None).unwrap();
    let mut step = 0;
    bencher.counter(BytesCount::new(4 * size_of_val(&grads[..]))).bench_local(|| {
        step += 1;
        let tensors = AdamTensors {
            params: axis.rows_mut(cast_slice_mut(&mut params)),
            master: None,
            grads: axis.rows(bytemuck::cast_slice(&grads)),
            exp_avg: axis.rows_mut(cast_slice_mut(&mut averages)),
            exp_avg_sq: axis.rows_mut(cast_slice_mut(&mut squares)),
        };
        adam_step(tensors, &Adam { step, unit_norm, ..Adam::default() }, None).unwrap()
    });
}
