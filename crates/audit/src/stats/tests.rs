//! The scan as a whole: what it refuses, and what may not depend on how rows come. Its figures are compared with
//! an oracle in `tests/verdict_oracle.py`.

use proptest::prelude::*;
use unitrow_norms::{Dtype, Rows, Summation, float32_norm, torch_figure};

use super::{DecoderScan, DecoderShape, DecoderStats, Finish, ScanError};

fn shape(dtype: Dtype, rows: usize, len: usize, strided: bool) -> DecoderShape {
    DecoderShape { dtype, rows, len, strided }
}

/// Rows of noise at norms around `level`, spread by `spread`, in any format.
fn noise(shape: DecoderShape, level: f64, spread: f64, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    let mut bytes = Vec::new();
    for _ in 0..shape.rows {
        let row: Vec<f64> = std::iter::repeat_with(&mut next).take(shape.len).collect();
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        let scale = level * (1.0 + spread * next()) / norm;
        for value in row {
            let code = shape.dtype.encode(value * scale).to_le_bytes();
            bytes.extend_from_slice(&code[..shape.dtype.size_bytes()]);
        }
    }
    bytes
}

/// The same rows in chunks of these sizes, the last chunk first.
fn in_chunks(shape: DecoderShape, bytes: &[u8], sizes: &[usize]) -> DecoderStats {
    let row_bytes = shape.len * shape.dtype.size_bytes();
    let mut chunks = Vec::new();
    let mut first = 0;
    for &size in sizes.iter().cycle() {
        if first == shape.rows {
            break;
        }
        let end = (first + size).min(shape.rows);
        chunks.push((first, &bytes[first * row_bytes..end * row_bytes]));
        first = end;
    }
    let mut scan = DecoderScan::new(shape);
    loop {
        std::thread::scope(|scope| {
            for (first, rows) in chunks.iter().rev() {
                let scan = &scan;
                scope.spawn(move || scan.rows(*first, rows).unwrap());
            }
        });
        match scan.finish().unwrap() {
            Finish::Stats(stats) => return *stats,
            Finish::Again(next) => scan = next,
        }
    }
}

/// Every figure, NaN equal to itself.
fn told(stats: &DecoderStats) -> String {
    format!("{stats:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn figures_do_not_depend_on_chunks_or_threads(
        rows in 1_usize..90,
        len in 1_usize..70,
        dtype in proptest::sample::select(Dtype::ALL.to_vec()),
        level in proptest::sample::select(vec![1.0, 0.9, 3.0, 0.02]),
        spread in proptest::sample::select(vec![0.0, 1e-6, 1e-3, 0.02, 1.0]),
        strided in any::<bool>(),
        sizes in proptest::collection::vec(1_usize..40, 1..5),
        seed in any::<u64>(),
    ) {
        let shape = shape(dtype, rows, len, strided);
        let bytes = noise(shape, level, spread, seed);
        let whole = DecoderScan::whole(shape, &bytes).unwrap();
        prop_assert_eq!(told(&in_chunks(shape, &bytes, &sizes)), told(&whole));
    }

    #[test]
    fn torch_shows_what_the_largest_of_all_rows_shows(
        rows in 1_usize..60,
        len in 1_usize..300,
        dtype in proptest::sample::select(vec![Dtype::F64, Dtype::F32, Dtype::Bf16, Dtype::F16]),
        spread in proptest::sample::select(vec![0.0, 1e-6, 1e-3, 1.0]),
        seed in any::<u64>(),
    ) {
        let shape = shape(dtype, rows, len, false);
        let bytes = noise(shape, 1.0, spread, seed);
        let mut figures = vec![0.0; rows];
        torch_figure(Rows::contiguous(&bytes, dtype, rows, len, 1).unwrap(), &mut figures).unwrap();
        let expected = figures.iter().map(|figure| (figure - 1.0).abs()).fold(0.0, f64::max);
        let found = DecoderScan::whole(shape, &bytes).unwrap().torch_max_abs_deviation;
        prop_assert_eq!(found.to_bits(), expected.to_bits());
    }
}

#[test]
fn torch_adds_along_a_strided_axis_with_one_sum() {
    let shape = shape(Dtype::F32, 40, 500, true);
    let bytes = noise(shape, 1.0, 0.0, 5);
    let mut norms = vec![0.0; 40];
    let rows = Rows::contiguous(&bytes, Dtype::F32, 40, 500, 1).unwrap();
    float32_norm(rows, Summation::Sequential, &mut norms).unwrap();
    let expected = norms.iter().map(|&norm| (f64::from(norm) - 1.0).abs()).fold(0.0, f64::max);
    let found = DecoderScan::whole(shape, &bytes).unwrap().torch_max_abs_deviation;
    assert_eq!(found.to_bits(), expected.to_bits());
}

#[test]
fn rows_must_be_whole_and_come_once() {
    let shape = shape(Dtype::F32, 4, 3, false);
    let bytes = noise(shape, 1.0, 0.1, 1);
    let scan = DecoderScan::new(shape);
    assert!(matches!(scan.rows(0, &bytes[1..]), Err(ScanError::Rows { .. })));
    assert!(matches!(scan.rows(1, &bytes), Err(ScanError::Rows { .. })));
    assert!(matches!(scan.rows(usize::MAX, &bytes), Err(ScanError::Rows { .. })));
    scan.rows(0, &bytes[..24]).unwrap();
    scan.rows(1, &bytes[12..24]).unwrap();
    assert!(matches!(scan.finish(), Err(ScanError::Coverage { row: 1, times: 2 })));
    let scan = DecoderScan::new(shape);
    scan.rows(1, &bytes[12..]).unwrap();
    assert!(matches!(scan.finish(), Err(ScanError::Coverage { row: 0, times: 0 })));
    let scan = DecoderScan::new(shape);
    scan.rows(0, &bytes[..36]).unwrap();
    assert!(matches!(scan.finish(), Err(ScanError::Coverage { row: 3, times: 0 })));
}

#[test]
fn decoders_without_rows_or_elements_have_figures_too() {
    let none = DecoderScan::whole(shape(Dtype::F32, 0, 5, false), &[]).unwrap();
    assert_eq!((none.judged_rows, none.zero_rows), (0, 0));
    let empty = DecoderScan::whole(shape(Dtype::F32, 7, 0, false), &[]).unwrap();
    assert_eq!((empty.judged_rows, empty.zero_rows, empty.nonfinite_rows), (0, 7, 0));
    assert!(empty.fields().iter().any(|(name, _)| *name == "rows"));
    assert!(matches!(
        DecoderScan::whole(shape(Dtype::F64, 1, usize::MAX, false), &[]),
        Err(ScanError::Shape { .. })
    ));
}

#[test]
fn elements_that_are_no_numbers_are_counted_and_their_rows_set_apart() {
    let shape = shape(Dtype::F32, 3, 4, false);
    let values = [1.0, 0.0, 0.0, 0.0, f32::NAN, f32::INFINITY, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let stats = DecoderScan::whole(shape, &bytes).unwrap();
    assert_eq!((stats.judged_rows, stats.nonfinite_rows, stats.zero_rows), (1, 1, 1));
    assert_eq!((stats.nan_elements, stats.inf_elements, stats.zero_elements), (1, 1, 8));
    assert_eq!(stats.worst_rows, vec![(0, 1.0)]);
}
