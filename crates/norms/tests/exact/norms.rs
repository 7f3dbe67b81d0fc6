//! Norms and counts against exact arithmetic, on every instruction set that this machine has.

use crate::oracle::{Stream, counts, decode, encode, norm_in_documented_order, norm_is_within};
use proptest::prelude::*;
use unitrow_norms::{
    Counts, Dtype, Error, Isa, Pool, Rows, row_norms, row_norms_counted_with, row_norms_with,
    value_counts_with,
};

fn dtypes() -> impl Strategy<Value = Dtype> {
    proptest::sample::select(&Dtype::ALL[..])
}

fn same_counts(found: Counts, expected: Counts) -> bool {
    let range = |counts: Counts| (counts.min.to_bits(), counts.max.to_bits());
    let numbers = |counts: Counts| (counts.nan, counts.inf, counts.zero, counts.subnormal);
    numbers(found) == numbers(expected) && range(found) == range(expected)
}

/// Checks one dense array, reduced along its middle axis, on every instruction set, counted and not.
fn check(bytes: &[u8], dtype: Dtype, [outer, len, inner]: [usize; 3]) -> Vec<f64> {
    let rows = Rows::contiguous(bytes, dtype, outer, len, inner).unwrap();
    let values = decode(bytes, dtype);
    let mut reference: Option<Vec<u64>> = None;
    let mut norms = vec![-1.0; outer * inner];
    for isa in Isa::all_available() {
        norms.fill(-1.0);
        let found = row_norms_counted_with(isa, rows, &mut norms, None).unwrap();
        let expected = counts(&values, dtype);
        assert!(same_counts(found, expected), "{isa} {dtype}: {found:?}, expected {expected:?}");
        let counted: Vec<_> = norms.iter().map(|norm| norm.to_bits()).collect();
        norms.fill(-1.0);
        row_norms_with(isa, rows, &mut norms, None).unwrap();
        let plain: Vec<_> = norms.iter().map(|norm| norm.to_bits()).collect();
        assert!(plain == counted, "{isa} {dtype}: counting changed a norm");
        let reference = reference.get_or_insert_with(|| plain.clone());
        let differs = plain.iter().zip(reference.iter()).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{isa} {dtype}: this row has other bits than plain Rust gives");
    }
    for (row, norm) in norms.iter().enumerate() {
        let start = row / inner * len * inner + row % inner;
        let row: Vec<_> = (0..len).map(|index| values[start + index * inner]).collect();
        assert!(norm_is_within(&row, *norm, 4), "{dtype} len {len} inner {inner}: {norm:e}");
        // The bits are to stay what they are between versions, not only between instruction sets.
        if let Some(documented) = norm_in_documented_order(&row, dtype) {
            assert_eq!(*norm, documented, "{dtype} len {len} inner {inner}: docs/kernels.md has another sum");
        }
    }
    norms
}

/// Lengths around every boundary: vector (8), block (64), chunk (128), segment (2048).
fn lengths() -> impl Iterator<Item = usize> {
    let around = |at: usize| at - 2..at + 3;
    (0..=70).chain([128, 192, 256, 1024, 2048, 2304, 4096].into_iter().flat_map(around))
}

#[test]
fn the_oracle_tells_one_ulp() {
    // 3, 4: the norm is 5 exactly. 1, 1: the root of 2 lies between two numbers.
    assert!(norm_is_within(&[3.0, 4.0], 5.0, 0));
    assert!(!norm_is_within(&[3.0, 4.0], 5.0_f64.next_up(), 0));
    assert!(norm_is_within(&[3.0, 4.0], 5.0_f64.next_up(), 1));
    assert!(!norm_is_within(&[3.0, 4.0], 5.0_f64.next_down(), 0));
    assert!(!norm_is_within(&[1.0, 1.0], 2_f64.sqrt(), 0));
    assert!(norm_is_within(&[1.0, 1.0], 2_f64.sqrt(), 1));
    assert!(norm_is_within(&[3e-320, 4e-320], 5e-320, 1));
    assert!(!norm_is_within(&[3e-320, 4e-320], 5.1e-320, 4));
}

#[test]
fn every_length_and_alignment() {
    let mut stream = Stream(1);
    for dtype in Dtype::ALL {
        for len in lengths() {
            let values: Vec<_> = (0..len).map(|_| stream.normal()).collect();
            let encoded = encode(&values, dtype);
            let offsets = if len > 70 { 1..2 } else { 0..16 };
            for offset in offsets {
                let mut shifted = vec![0xff; offset];
                shifted.extend_from_slice(&encoded);
                check(&shifted[offset..], dtype, [1, len, 1]);
            }
        }
    }
}

#[test]
fn columns_have_the_bits_of_rows() {
    let mut stream = Stream(2);
    for dtype in Dtype::ALL {
        for (len, inner) in [
            (1, 2),
            (3, 5),
            (8, 64),
            (9, 65),
            (63, 7),
            (64, 130),
            (65, 9),
            (128, 70),
            (130, 1030),
            (199, 9),
            (71, 2050),
            (9, 8250),
            // Two chunks and a row.
            (321, 70),
            (137, 2050),
            // Two tiles, the second a narrow one, of whole blocks of rows and seven more.
            (71, 16450),
        ] {
            let values: Vec<_> = (0..2 * len * inner).map(|_| stream.normal()).collect();
            let bytes = encode(&values, dtype);
            let found = check(&bytes, dtype, [2, len, inner]);
            let mut transposed = Vec::new();
            for outer in 0..2 {
                for column in 0..inner {
                    transposed.extend((0..len).map(|row| values[(outer * len + row) * inner + column]));
                }
            }
            let bytes = encode(&transposed, dtype);
            let mut rows = vec![0.0; 2 * inner];
            row_norms(Rows::contiguous(&bytes, dtype, 2 * inner, len, 1).unwrap(), &mut rows, None).unwrap();
            assert!(found == rows, "{dtype} {len}x{inner}");
        }
    }
}

/// AVX-512 reads wide rows of float32 in pieces: all three parts of a chunk, a second tile, and columns beside pieces.
#[test]
fn columns_of_wide_matrices_have_the_bits_of_rows() {
    const LEN: usize = 195;
    const INNER: usize = 2 * 16_384 + 12_310;
    let mut stream = Stream(8);
    let some: Vec<_> = (0..1009).map(|_| stream.normal_of_any_size()).collect();
    let values: Vec<_> = (0..LEN * INNER).map(|index| some[index % some.len()]).collect();
    let transposed: Vec<_> =
        (0..values.len()).map(|index| values[index % LEN * INNER + index / LEN]).collect();
    let (columns, rows) = (encode(&values, Dtype::F32), encode(&transposed, Dtype::F32));
    let columns = Rows::contiguous(&columns, Dtype::F32, 1, LEN, INNER).unwrap();
    let rows = Rows::contiguous(&rows, Dtype::F32, INNER, LEN, 1).unwrap();
    let mut expected = vec![0.0; INNER];
    row_norms(rows, &mut expected, None).unwrap();
    for isa in Isa::all_available() {
        let mut found = vec![0.0; INNER];
        row_norms_with(isa, columns, &mut found, None).unwrap();
        assert!(found == expected, "{isa}");
    }
}

#[test]
fn extreme_values() {
    let cases: [&[f64]; 17] = [
        &[1e20, 3e19, -2e20],
        &[1e-40, 2e-41, -3e-42],
        &[1e-45, 1e-45],
        &[3.4e38, 3.4e38, 3.4e38],
        &[1e200, 1e200, 1e-200],
        &[1e-200, 2e-200, 1e-310],
        &[5e-324, 5e-324, 5e-324, 5e-324],
        &[5e-324],
        &[f64::MAX, 1.0],
        &[f64::MAX, f64::MAX],
        // Their squares are numbers, but those that the root is corrected by were not: the norm was -inf.
        &[1.340_780_79e154],
        &[1.340_780_792_994_259_6e154],
        &[1e153, 1e154],
        &[f64::MIN_POSITIVE, 5e-324],
        &[1.0, 1e-170, 1e170],
        &[0.0, -0.0],
        &[65504.0, 6e-8, 448.0],
    ];
    for dtype in Dtype::ALL {
        for case in cases {
            for repeat in [1, 7, 40, 700] {
                let values = case.repeat(repeat);
                let bytes = encode(&values, dtype);
                check(&bytes, dtype, [1, values.len(), 1]);
                check(&bytes, dtype, [1, repeat, case.len()]);
            }
        }
    }
}

#[test]
fn long_rows_stay_within_four_ulp() {
    let mut stream = Stream(3);
    let len = 65_536;
    let shapes: [fn(&mut Stream, usize) -> f64; 5] = [
        |stream, _| stream.normal(),
        |_, _| 1.1,
        // Each block in a higher binade than all before it.
        |stream, index| stream.uniform() * 1.5_f64.powi(i32::try_from(index / 64).unwrap().min(200)),
        // One large element and many that vanish beside it.
        |stream, index| if index == 0 { 1.0 } else { stream.uniform() * 1e-8 },
        |stream, _| stream.uniform().powi(9),
    ];
    for dtype in [Dtype::F64, Dtype::F32, Dtype::Bf16] {
        for shape in shapes {
            let values: Vec<_> = (0..len).map(|index| shape(&mut stream, index)).collect();
            check(&encode(&values, dtype), dtype, [1, len, 1]);
        }
    }
}

#[test]
fn every_narrow_code_alone_and_in_company() {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.size_bytes() <= 2) {
        let codes = 1_u64 << (8 * dtype.size_bytes());
        let bytes: Vec<_> =
            (0..codes).flat_map(|code| code.to_le_bytes()[..dtype.size_bytes()].to_vec()).collect();
        let len = usize::try_from(codes).unwrap();
        check(&bytes, dtype, [len, 1, 1]);
        check(&bytes, dtype, [len / 64, 64, 1]);
        check(&bytes, dtype, [1, len / 64, 64]);
    }
}

#[test]
fn strided_views_mean_what_they_say() {
    let mut stream = Stream(4);
    let values: Vec<_> = (0..6 * 40 * 50).map(|_| stream.normal()).collect();
    for dtype in [Dtype::F64, Dtype::F32, Dtype::Bf16, Dtype::F8E5M2] {
        let bytes = encode(&values, dtype);
        let decoded = decode(&bytes, dtype);
        let views: [([usize; 3], [usize; 3]); 10] = [
            ([6, 50, 1], [2000, 1, 9]),
            ([6, 40, 50], [2000, 50, 1]),
            ([50, 40, 1], [1, 50, 0]),
            ([3, 20, 25], [4000, 100, 2]),
            ([40, 25, 1], [50, 2, 7]),
            ([6, 50, 40], [2000, 1, 50]),
            ([2, 3, 4], [0, 0, 0]),
            ([5, 1, 1], [1, 77, 77]),
            // More than a chunk.
            ([9, 200, 1], [1000, 7, 1]),
            ([3, 321, 20], [1000, 25, 1]),
        ];
        for (shape, strides) in views {
            let rows = Rows::strided(&bytes, dtype, shape, strides).unwrap();
            let mut norms = vec![0.0; rows.count()];
            row_norms(rows, &mut norms, None).unwrap();
            for (row, norm) in norms.iter().enumerate() {
                let start = row / shape[2] * strides[0] + row % shape[2] * strides[2];
                let row: Vec<_> = (0..shape[1]).map(|index| decoded[start + index * strides[1]]).collect();
                assert!(norm_is_within(&row, *norm, 4), "{shape:?} {strides:?}");
                assert_eq!(norm_in_documented_order(&row, dtype).unwrap_or(*norm), *norm, "{shape:?}");
            }
        }
    }
}

/// A wrong order changes one norm in a hundred or so, and none where the squares are so short that all their sums are
/// exact: so many rows, of numbers of many sizes.
#[test]
fn many_rows_have_the_documented_order() {
    const ROWS: usize = 200;
    let mut stream = Stream(7);
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E5M2] {
        for len in [65, 127, 128, 192, 200, 321, 513] {
            let values: Vec<_> = (0..ROWS * len).map(|_| stream.normal_of_any_size()).collect();
            let bytes = encode(&values, dtype);
            check(&bytes, dtype, [ROWS, len, 1]);
            check(&bytes, dtype, [1, len, ROWS]);
        }
    }
}

#[test]
fn rows_that_are_gathered_and_rescaled_keep_apart() {
    let values: Vec<_> = (0..9 * 10).map(|index| f64::from(index) * 1e300).collect();
    let bytes = encode(&values, Dtype::F64);
    let rows = Rows::strided(&bytes, Dtype::F64, [9, 5, 1], [10, 2, 1]).unwrap();
    for isa in Isa::all_available() {
        let mut norms = [0.0; 9];
        row_norms_with(isa, rows, &mut norms, None).unwrap();
        for (row, norm) in values.chunks(10).zip(norms) {
            let row: Vec<_> = row.iter().copied().step_by(2).collect();
            assert!(norm_is_within(&row, norm, 4), "{isa} {row:?} {norm}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut stream = Stream(5);
    let values: Vec<_> = (0..1200 * 900).map(|_| stream.normal()).collect();
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F8E4M3] {
        // Above 16 MiB, from where on threads share the work.
        let times = (18 << 20) / (values.len() * dtype.size_bytes()) + 1;
        let bytes = encode(&values, dtype).repeat(times);
        let expected = counts(&decode(&bytes, dtype), dtype);
        for shape in [[1200, 900, 1], [1, 1200, 900], [12, 100, 900], [120, 900, 10]] {
            let shape =
                if shape[0] == 1 { [1, 1200, 900 * times] } else { [shape[0] * times, shape[1], shape[2]] };
            let rows = Rows::contiguous(&bytes, dtype, shape[0], shape[1], shape[2]).unwrap();
            let mut alone = vec![0.0; rows.count()];
            row_norms(rows, &mut alone, None).unwrap();
            for threads in 1..=3 {
                let pool = Pool::new(threads).unwrap();
                let mut norms = vec![0.0; rows.count()];
                let found = row_norms_counted_with(Isa::detect(), rows, &mut norms, Some(&pool)).unwrap();
                assert!(norms == alone, "{dtype} {shape:?} {threads} counted");
                assert!(same_counts(found, expected));
                norms.fill(0.0);
                row_norms(rows, &mut norms, Some(&pool)).unwrap();
                assert!(norms == alone, "{dtype} {shape:?} {threads}");
            }
        }
    }
}

#[test]
fn rows_summed_in_turn_have_the_bits_of_rows_alone() {
    let mut stream = Stream(6);
    for (dtype, len) in [
        (Dtype::F64, 1027),
        (Dtype::F32, 1027),
        (Dtype::F32, 193),
        (Dtype::F32, 3),
        (Dtype::F16, 193),
        (Dtype::Bf16, 200),
        (Dtype::F8E4M3, 1027),
    ] {
        let row_bytes = len * dtype.size_bytes();
        // From 8 MiB on, which is less than any of the views; three rows more than whole parts.
        let count = (13 << 20) / row_bytes / 4 * 4 + 7;
        let some: Vec<_> = (0..97 * len).map(|_| stream.normal_of_any_size()).collect();
        let mut bytes = encode(&some, dtype).repeat(count / 97 + 1);
        bytes.truncate(count * row_bytes);
        for (index, value) in [f64::NAN, f64::INFINITY, 0.0, 1e300, 1e-300].into_iter().enumerate() {
            for start in [0, count / 4, count / 2, count - 5] {
                let at = (start + index) * row_bytes;
                bytes[at..at + row_bytes].copy_from_slice(&encode(&vec![value; len], dtype));
            }
        }
        // Next to each other, without their last element, and overlapping: each starts within the one before.
        for (shape, outer) in
            [([count, len, 1], len), ([count, len - 1, 1], len), ([2 * count - 2, len, 1], len / 2)]
        {
            let mut first: Option<Vec<u64>> = None;
            for isa in Isa::all_available() {
                let rows = Rows::strided(&bytes, dtype, shape, [outer, 1, 1]).unwrap();
                let mut together = vec![0.0; rows.count()];
                row_norms_with(isa, rows, &mut together, None).unwrap();
                let bits = |norms: Vec<f64>| norms.into_iter().map(f64::to_bits).collect::<Vec<_>>();
                let together = bits(together);
                // Which formats are summed in turn depends on the instruction set.
                assert!(
                    *first.get_or_insert_with(|| together.clone()) == together,
                    "{isa} {dtype} {shape:?}"
                );
                // Few enough for the caches, whose sums are folded by eights, and fewer than eight.
                for few in [500, 7] {
                    let mut alone = vec![0.0; rows.count()];
                    for (index, norms) in alone.chunks_mut(few).enumerate() {
                        let start = index * few * outer * dtype.size_bytes();
                        let shape = [norms.len(), shape[1], 1];
                        let rows = Rows::strided(&bytes[start..], dtype, shape, [outer, 1, 1]).unwrap();
                        row_norms_with(isa, rows, norms, None).unwrap();
                    }
                    assert!(bits(alone) == together, "{isa} {dtype} {shape:?} {few}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let bytes = [0; 24];
    assert!(matches!(
        Rows::contiguous(&bytes, Dtype::F32, 2, 4, 1),
        Err(Error::BufferSize { needed_bytes: 32, found_bytes: 24 })
    ));
    assert!(matches!(Rows::contiguous(&bytes, Dtype::F32, usize::MAX, 2, 1), Err(Error::TooLarge { .. })));
    assert!(Rows::strided(&bytes, Dtype::F32, [2, 3, 1], [3, 1, 1]).is_ok());
    assert!(matches!(
        Rows::strided(&bytes, Dtype::F32, [2, 3, 1], [4, 1, 1]),
        Err(Error::BufferSize { needed_bytes: 28, .. })
    ));
    assert!(matches!(
        Rows::strided(&bytes, Dtype::F32, [2, 2, 2], [usize::MAX, 1, 1]),
        Err(Error::TooLarge { .. })
    ));
    let rows = Rows::contiguous(&bytes, Dtype::F32, 2, 3, 1).unwrap();
    assert!(matches!(row_norms(rows, &mut [0.0], None), Err(Error::Length { expected: 2, found: 1, .. })));
    // Empty in one axis: rows of length 0 have norm 0, whatever the strides say.
    let rows = Rows::strided(&[], Dtype::F64, [2, 0, 3], [usize::MAX, 1, 1]).unwrap();
    let mut norms = [1.0; 6];
    row_norms(rows, &mut norms, None).unwrap();
    assert_eq!(norms, [0.0; 6]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bits(
        dtype in dtypes(), outer in 0_usize..4, len in 0_usize..150, inner in 1_usize..20, seed in any::<u64>()
    ) {
        let mut stream = Stream(seed);
        let size_bytes = outer * len * inner * dtype.size_bytes();
        let bytes: Vec<_> = (0..size_bytes).map(|_| stream.bits().to_le_bytes()[0]).collect();
        check(&bytes, dtype, [outer, len, inner]);
    }

    #[test]
    fn any_finite_magnitude(dtype in dtypes(), len in 1_usize..300, low in -1100_i32..1000, seed in any::<u64>()) {
        let mut stream = Stream(seed);
        let spread = stream.bits() % 200;
        let values: Vec<_> = (0..len).map(|_| {
            let exponent = low + i32::try_from(stream.bits() % (spread + 1)).unwrap();
            stream.uniform() * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2)
        }).collect();
        let bytes = encode(&values, dtype);
        check(&bytes, dtype, [1, len, 1]);
    }

    #[test]
    fn counts_alone(dtype in dtypes(), seed in any::<u64>(), size_bytes in 0_usize..2000, palette in 1_u64..200) {
        let mut stream = Stream(seed);
        // Few distinct bytes give many zeros, NaN and repeated values.
        let bytes: Vec<_> = (0..size_bytes).map(|_| {
            let pick = stream.bits() % palette;
            u8::try_from(if pick < 3 { [0, 0x7f, 0x80][usize::try_from(pick).unwrap()] } else { pick }).unwrap()
        }).collect();
        let whole = &bytes[..size_bytes / dtype.size_bytes() * dtype.size_bytes()];
        let expected = counts(&decode(whole, dtype), dtype);
        for isa in Isa::all_available() {
            let found = value_counts_with(isa, &bytes, dtype);
            prop_assert!(same_counts(found, expected), "{} {}: {:?} {:?}", isa, dtype, found, expected);
        }
    }
}
