//! Renormalisation: within its bound, idempotent, one rounding, the same on every instruction set and thread.

use crate::oracle::{Stream, decode, encode, first_difference, norm_is_within};
use proptest::prelude::*;
use unitrow_norms::{
    Compat, Dtype, Error, Isa, Normalize, Normalized, OnDegenerate, Pool, Rows, RowsMut, normalize_rows,
    normalize_rows_with, row_norms, torch_figure,
};

fn norms_of(bytes: &[u8], dtype: Dtype, shape: [usize; 3]) -> Vec<f64> {
    let rows = Rows::contiguous(bytes, dtype, shape[0], shape[1], shape[2]).unwrap();
    let mut norms = vec![0.0; rows.count()];
    row_norms(rows, &mut norms, None).unwrap();
    norms
}

fn normalize(isa: Isa, bytes: &mut [u8], dtype: Dtype, shape: [usize; 3]) -> Normalized {
    let rows = RowsMut::contiguous(bytes, dtype, shape[0], shape[1], shape[2]).unwrap();
    normalize_rows_with(isa, rows, Normalize::default(), None).unwrap()
}

/// Half an ulp of each element times its magnitude, and half of the squares: what may be missing below 1.
fn bounds(row: &[f64], dtype: Dtype) -> (f64, f64) {
    let half = |value: f64| {
        let exponent = value.abs().max(dtype.min_normal()).log2().floor();
        (exponent - f64::from(dtype.precision_bits())).exp2()
    };
    let above = row.iter().map(|value| value.abs() * half(*value)).sum::<f64>();
    (above, above + row.iter().map(|value| half(*value) * half(*value)).sum::<f64>() / 2.0 + above * above)
}

/// Checks one dense array in place on every instruction set; returns the result.
fn check(bytes: &[u8], dtype: Dtype, shape: [usize; 3]) -> Vec<u8> {
    let [_, len, inner] = shape;
    let before = decode(bytes, dtype);
    let norms = norms_of(bytes, dtype, shape);
    let mut reference: Option<(Vec<u8>, Normalized)> = None;
    for isa in Isa::all_available() {
        let mut result = bytes.to_vec();
        let counts = normalize(isa, &mut result, dtype, shape);
        let expected = reference.get_or_insert_with(|| (result.clone(), counts));
        let differs = first_difference(&expected.0, &result, dtype);
        assert_eq!(differs, None, "{isa} {dtype} {shape:?}: the first element that differs");
        assert_eq!(expected.1, counts, "{isa} {dtype} {shape:?}");
        let mut again = result.clone();
        let counts_again = normalize(isa, &mut again, dtype, shape);
        assert!(again == result, "{isa} {dtype} {shape:?}: not idempotent");
        assert_eq!(counts_again.changed, 0, "{isa} {dtype} {shape:?}");
    }
    let (result, counts) = reference.unwrap();
    assert_eq!(counts.changed + counts.unchanged + counts.zero + counts.nonfinite, shape[0] * inner);
    let after = decode(&result, dtype);
    for (index, norm) in norms.iter().enumerate() {
        let start = index / inner * len * inner + index % inner;
        let row = |values: &[f64]| (0..len).map(|at| values[start + at * inner]).collect::<Vec<_>>();
        let (before, after) = (row(&before), row(&after));
        let same = before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits());
        if *norm == 0.0 || !norm.is_finite() {
            assert!(same, "{dtype}: a row without direction was touched");
            continue;
        }
        if !same {
            let once = before.iter().map(|value| dtype.decode(dtype.encode(value / norm)));
            assert!(once.eq(after.iter().copied()), "{dtype} {shape:?} row {index}: not rounded once");
        }
        let deviation = {
            let bytes = encode(&after, dtype);
            norms_of(&bytes, dtype, [1, len, 1])[0] - 1.0
        };
        let (above, below) = bounds(&after, dtype);
        let slack = 8.0 * f64::EPSILON;
        assert!(
            (-below - slack..=above + slack).contains(&deviation),
            "{dtype} {shape:?} row {index}: {deviation:e} beyond {below:e} {above:e}"
        );
    }
    result
}

#[test]
fn every_dtype_length_and_axis() {
    let mut stream = Stream(11);
    for dtype in Dtype::ALL {
        for len in (1..20).chain([63, 64, 65, 130, 192, 200, 768]) {
            for scale in [1e-3, 1.0, 37.0] {
                let values: Vec<_> = (0..9 * len).map(|_| stream.normal() * scale).collect();
                let bytes = encode(&values, dtype);
                check(&bytes, dtype, [9, len, 1]);
                check(&bytes, dtype, [1, len, 9]);
                check(&bytes, dtype, [3, len, 3]);
            }
        }
    }
}

#[test]
fn peaky_rows_stop_after_one_division() {
    // Two equal large entries: plain division keeps moving such rows for many rounds.
    let mut stream = Stream(12);
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F64] {
        for len in [2, 3, 8, 384] {
            let values: Vec<_> =
                (0..400 * len)
                    .map(|index| {
                        if index % len < 2 { 1.0 + stream.uniform() } else { stream.normal().powi(5) * 1e-2 }
                    })
                    .collect();
            check(&encode(&values, dtype), dtype, [400, len, 1]);
        }
    }
}

#[test]
fn a_unit_row_stays_bit_for_bit() {
    let mut stream = Stream(13);
    let values: Vec<_> = (0..64 * 300).map(|_| stream.normal()).collect();
    let bytes = encode(&values, Dtype::F32);
    let mut unit = check(&bytes, Dtype::F32, [64, 300, 1]);
    let kept = unit.clone();
    let counts = normalize(Isa::detect(), &mut unit, Dtype::F32, [64, 300, 1]);
    assert_eq!(counts, Normalized { unchanged: 64, ..Normalized::default() });
    assert!(unit == kept);
}

#[test]
fn rows_whose_squared_norm_leaves_the_range_become_unit() {
    // The square of such a norm is infinite or zero, and infinite is not within any bound of 1. A subnormal norm
    // has few bits: division by it alone left rows 1e-7 off.
    for exponent in [600, -600, 1010, -1060] {
        let half_way = 2_f64.powi(exponent / 2);
        let row: Vec<f64> = (1..=64).map(|at| f64::from(at) * half_way * half_way).collect();
        for shape in [[1, 64, 1], [1, 32, 2]] {
            for isa in Isa::all_available() {
                let mut bytes = encode(&row, Dtype::F64);
                assert_eq!(normalize(isa, &mut bytes, Dtype::F64, shape).changed, shape[2], "2^{exponent}");
                for norm in norms_of(&bytes, Dtype::F64, shape) {
                    assert!((norm - 1.0).abs() <= f64::EPSILON, "2^{exponent}: {norm:e}");
                }
                assert_eq!(normalize(isa, &mut bytes, Dtype::F64, shape).changed, 0, "2^{exponent}");
            }
        }
    }
}

#[test]
fn degenerate_rows() {
    for dtype in Dtype::ALL {
        let mut values = vec![5.0; 6 * 5];
        values[5..10].fill(-0.0);
        values[12] = f64::NAN;
        values[18] = f64::INFINITY;
        values[19] = f64::NEG_INFINITY;
        let bytes = encode(&values, dtype);
        let mut result = bytes.clone();
        let counts = normalize(Isa::detect(), &mut result, dtype, [6, 5, 1]);
        assert_eq!((counts.changed, counts.zero, counts.nonfinite), (3, 1, 2), "{dtype}");
        let row_bytes = 5 * dtype.size_bytes();
        assert!(result[row_bytes..4 * row_bytes] == bytes[row_bytes..4 * row_bytes]);
        let mut raised = bytes.clone();
        let rows = RowsMut::contiguous(&mut raised, dtype, 6, 5, 1).unwrap();
        let options = Normalize { on_degenerate: OnDegenerate::Raise, ..Normalize::default() };
        let error = normalize_rows(rows, options, None).unwrap_err();
        assert_eq!(error, Error::Degenerate { zero: 1, nonfinite: 2 });
        assert!(raised == bytes, "nothing is written before an error");
        check(&bytes, dtype, [6, 5, 1]);
        check(&bytes, dtype, [1, 5, 6]);
    }
}

#[test]
fn threads_strides_and_refusals() {
    let mut stream = Stream(14);
    let values: Vec<_> = (0..500 * 700).map(|_| stream.normal()).collect();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let bytes = encode(&values, dtype);
        for shape in [[500, 700, 1], [1, 700, 500], [10, 70, 500]] {
            let mut alone = bytes.clone();
            normalize(Isa::detect(), &mut alone, dtype, shape);
            for threads in 1..=3 {
                let pool = Pool::new(threads).unwrap();
                let mut result = bytes.clone();
                let rows = RowsMut::contiguous(&mut result, dtype, shape[0], shape[1], shape[2]).unwrap();
                let counts = normalize_rows(rows, Normalize::default(), Some(&pool)).unwrap();
                assert_eq!(counts.changed, shape[0] * shape[2]);
                assert!(result == alone, "{dtype} {shape:?} {threads}");
            }
        }
        // Every second column of a wider matrix: what lies between is not touched.
        let mut result = bytes.clone();
        let rows = RowsMut::strided(&mut result, dtype, [500, 350, 1], [700, 2, 1]).unwrap();
        normalize_rows(rows, Normalize::default(), None).unwrap();
        let size_bytes = dtype.size_bytes();
        let between = |bytes: &[u8]| -> Vec<u8> {
            bytes.chunks(size_bytes).skip(1).step_by(2).flatten().copied().collect()
        };
        assert!(between(&result) == between(&bytes));
        assert!(result != bytes);
    }
    let mut bytes = [0_u8; 64];
    let overlapping = RowsMut::strided(&mut bytes, Dtype::F32, [2, 4, 1], [2, 1, 1]);
    assert!(matches!(overlapping, Err(Error::Overlap { .. })));
}

#[test]
fn torch_compat_divides_by_torchs_norm() {
    let mut stream = Stream(15);
    for len in [5, 64, 71, 300] {
        let values: Vec<_> = (0..20 * len).map(|_| stream.normal()).collect();
        let bytes = encode(&values, Dtype::F32);
        for (outer, inner) in [(20, 1), (1, 20)] {
            let rows = Rows::contiguous(&bytes, Dtype::F32, outer, len, inner).unwrap();
            let mut norms = vec![0.0; 20];
            torch_figure(rows, &mut norms).unwrap();
            let mut result = bytes.clone();
            let rows = RowsMut::contiguous(&mut result, Dtype::F32, outer, len, inner).unwrap();
            let options = Normalize { compat: Compat::Torch, ..Normalize::default() };
            normalize_rows(rows, options, None).unwrap();
            let (before, after) = (decode(&bytes, Dtype::F32), decode(&result, Dtype::F32));
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                let norm = if inner == 1 { norms[index / len] } else { norms[index % inner] };
                #[expect(clippy::cast_possible_truncation, reason = "torch divides in float32")]
                let expected = *before as f32 / norm as f32;
                assert_eq!(f64::from(expected), *after);
            }
        }
    }
    let mut bytes = [0; 4];
    let rows = RowsMut::contiguous(&mut bytes, Dtype::F8E4M3, 1, 4, 1).unwrap();
    let options = Normalize { compat: Compat::Torch, ..Normalize::default() };
    assert!(matches!(normalize_rows(rows, options, None), Err(Error::Dtype { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bits(
        dtype in proptest::sample::select(&Dtype::ALL[..]),
        len in 1_usize..90, inner in 1_usize..5, seed in any::<u64>()
    ) {
        let mut stream = Stream(seed);
        let bytes: Vec<_> =
            (0..2 * len * inner * dtype.size_bytes()).map(|_| stream.bits().to_le_bytes()[0]).collect();
        check(&bytes, dtype, [2, len, inner]);
    }
}

#[test]
fn the_bound_of_the_tests_is_that_of_the_format() {
    assert!(norm_is_within(&[1.0], 1.0, 0));
    let (above, _) = bounds(&[1.0], Dtype::F32);
    assert_eq!(above, f64::from(f32::EPSILON) / 2.0);
}
