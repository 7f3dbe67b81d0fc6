//! Special values by each dtype's own table, and where they are reported.

use unitrow_audit::values::{Frame, Values};
use unitrow_tensors::{Dtype, Severity};

/// A vector of these bytes, at the beginning of its file.
fn vector(dtype: Dtype, bytes: &[u8]) -> Frame {
    let len = bytes.len() as u64;
    let shape = vec![len * 8 / dtype.bits().max(1)];
    Frame { dtype, shape, transposed: false, start: Some(0), len, is_last: false, in_hole: false }
}

/// Look at the bytes of a vector, `at` bytes into it.
fn look(dtype: Dtype, bytes: &[u8], at: u64) -> Values {
    unitrow_audit::values::look(&vector(dtype, bytes), at, bytes, None)
}

/// A matrix of float32 in the middle of its file.
fn matrix(rows: u64, row: u64, start: u64) -> Frame {
    let len = 4 * rows * row;
    let shape = vec![rows, row];
    Frame {
        dtype: Dtype::F32,
        shape,
        transposed: false,
        start: Some(start),
        len,
        is_last: false,
        in_hole: false,
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Numbers as weights are: of one scale, either sign, all different.
fn weights(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| (next() + next() + next()) * 0.1).collect()
}

/// The findings on a tensor that is looked at in blocks of so many bytes, the last block first.
fn found(frame: &Frame, bytes: &[u8], block: usize) -> Vec<(&'static str, Severity, Option<u64>)> {
    let mut all = Values::default();
    for (index, block_bytes) in bytes.chunks(block).enumerate().rev() {
        all.merge(&unitrow_audit::values::look(frame, (index * block) as u64, block_bytes, None));
    }
    let defects = all.findings("w", frame);
    defects.iter().map(|defect| (defect.code.name, defect.severity, defect.byte_offset)).collect()
}

fn counts(dtype: Dtype, bytes: &[u8]) -> (u64, u64) {
    let counts = look(dtype, bytes, 0).counts.unwrap_or_default();
    (counts.nan, counts.inf)
}

/// NaN and Inf codes among all 256 of an 8-bit format, one at a time.
fn special_codes(dtype: Dtype) -> (Vec<u8>, Vec<u8>) {
    let all = 0..=255_u8;
    let nan = all.clone().filter(|&code| counts(dtype, &[code]).0 == 1).collect();
    let inf = all.filter(|&code| counts(dtype, &[code]).1 == 1).collect();
    (nan, inf)
}

#[test]
fn eight_bit_floats_have_the_special_codes_of_their_formats() {
    assert_eq!(special_codes(Dtype::F8E4M3), (vec![0x7f, 0xff], vec![]));
    let nan = vec![0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff];
    assert_eq!(special_codes(Dtype::F8E5M2), (nan, vec![0x7c, 0xfc]));
    assert_eq!(special_codes(Dtype::F8E4M3Fnuz), (vec![0x80], vec![]));
    assert_eq!(special_codes(Dtype::F8E5M2Fnuz), (vec![0x80], vec![]));
    assert_eq!(special_codes(Dtype::F8E8M0), (vec![0xff], vec![]));
}

#[test]
fn sixteen_bit_floats_agree_with_their_reference_conversion() {
    for bits in 0..=u16::MAX {
        let bytes = bits.to_le_bytes();
        let (half, brain) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
        let expected = |nan: bool, infinite: bool| (u64::from(nan), u64::from(infinite));
        assert_eq!(counts(Dtype::F16, &bytes), expected(half.is_nan(), half.is_infinite()), "{bits:#06x}");
        assert_eq!(counts(Dtype::Bf16, &bytes), expected(brain.is_nan(), brain.is_infinite()), "{bits:#06x}");
    }
}

#[test]
fn wide_floats_and_complex_numbers_count_quiet_and_signalling_nan() {
    let bits = [0x7fc0_0000_u32, 0x7fa0_0000, 0xffff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 1, 0];
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    assert_eq!(counts(Dtype::F32, &bytes), (3, 2));
    assert_eq!(counts(Dtype::C64, &bytes), (3, 2));
    let wide = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324];
    let bytes: Vec<u8> = wide.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(counts(Dtype::F64, &bytes), (1, 2));
    let bytes = [&bytes[..], &[0; 8]].concat();
    assert_eq!(counts(Dtype::C128, &bytes), (1, 2));
    let values = look(Dtype::C128, &bytes, 0);
    assert_eq!(values.example, [Some(0), Some(8), None], "either part of a complex number");
}

#[test]
fn every_other_dtype_has_no_special_values() {
    let bytes = [0xff; 48];
    for dtype in [Dtype::F4, Dtype::F6E2M3, Dtype::F6E3M2, Dtype::U8, Dtype::I16, Dtype::U32, Dtype::I64] {
        let seen = look(dtype, &bytes, 0);
        assert_eq!(seen.counts, None, "{dtype}");
        assert_eq!(seen.findings("w", &vector(dtype, &bytes)), [], "{dtype}");
    }
}

#[test]
fn booleans_are_0_or_1() {
    let values = look(Dtype::Bool, &[0, 1, 2, 255], 10);
    assert_eq!((values.bad_bool, values.example[2]), (2, Some(12)));
    let frame = Frame { start: Some(100), ..vector(Dtype::Bool, &[0, 1, 2, 255]) };
    let findings = values.findings("mask", &frame);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].code.name, findings[0].byte_offset), ("V_BAD_BOOL", Some(112)));
}

#[test]
fn merging_is_the_same_in_any_order_and_keeps_the_least_place() {
    let parts: Vec<Values> = [f32::NAN, 1.0, f32::INFINITY, f32::NAN]
        .iter()
        .enumerate()
        .map(|(index, value)| look(Dtype::F32, &value.to_le_bytes(), 4 * index as u64))
        .collect();
    let merged = |order: [usize; 4]| {
        let mut all = Values::default();
        for index in order {
            all.merge(&parts[index]);
        }
        all
    };
    let all = merged([0, 1, 2, 3]);
    assert_eq!(all, merged([3, 1, 2, 0]));
    assert_eq!(all.example, [Some(0), Some(8), None]);
    let findings = all.findings("W_dec", &Frame { start: None, ..vector(Dtype::F32, &[0; 16]) });
    let words: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(words, ["2 values are NaN, for example element 0", "one value is Inf, for example element 2"]);
}

#[test]
fn findings_of_a_tensor_come_in_the_order_of_their_offsets() {
    let bytes: Vec<u8> =
        [f32::INFINITY, 1.0, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    let findings = look(Dtype::F32, &bytes, 0)
        .findings("W_dec", &Frame { start: Some(8), ..vector(Dtype::F32, &bytes) });
    let places: Vec<_> = findings.iter().map(|finding| (finding.code.name, finding.byte_offset)).collect();
    assert_eq!(places, [("V_INF", Some(8)), ("V_NAN", Some(16))]);
}

#[test]
fn the_first_special_value_is_found_wherever_it_stands() {
    for len in [1, 2, 3, 1023, 1024, 1025, 5000] {
        for place in [0, 1, len / 3, len / 2, len - 1] {
            if place >= len {
                continue;
            }
            let mut values = vec![1.0_f32; len];
            values[place..].iter_mut().step_by(7).for_each(|value| *value = f32::NAN);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let seen = look(Dtype::F32, &bytes, 0);
            assert_eq!(seen.example[0], Some(4 * place as u64), "{place} of {len}");
            let mut codes = vec![0_u8; len];
            codes[place..].fill(0x7c);
            let seen = look(Dtype::F8E5M2, &codes, 0);
            assert_eq!(seen.example, [None, Some(place as u64), None], "{place} of {len}");
        }
    }
}

/// Blocks into which tensors are cut: no finding may depend on them.
const BLOCKS: [usize; 4] = [1 << 20, 65536, 4096, 1024];

#[test]
fn weights_and_small_numbers_are_ordinary() {
    let plain = weights(64 << 10);
    let wide: Vec<f32> = plain.iter().map(|w| w / (1e-6 + w.abs()).sqrt() * 1e-3).collect();
    for values in [plain, wide] {
        for block in BLOCKS {
            assert_eq!(found(&matrix(256, 256, 72), &bytes_of(&values), block), []);
        }
    }
}

#[test]
fn zero_pages_are_told_from_zero_rows() {
    let all = bytes_of(&weights(64 << 10));
    // The matrix begins 72 bytes into its file, a row has 1000 bytes.
    let frame = Frame { len: 256 * 1000, ..matrix(256, 250, 72) };
    let all = &all[..256 * 1000];
    let last = Frame { is_last: true, ..frame.clone() };
    let zeroed = |from: usize, to: usize| {
        let mut bytes = all.to_vec();
        bytes[from..to].fill(0);
        bytes
    };
    let page = |number: usize| number * 4096 - 72;
    let by_page = vec![("V_ZERO_PAGES", Severity::Fail, Some(8192))];
    let maybe = |place| vec![("V_ZERO_PAGES", Severity::Warn, Some(place))];
    for block in BLOCKS.map(|block| block / 1000 * 1000) {
        let found = |frame: &Frame, from, to| {
            let mut found = found(frame, &zeroed(from, to), block);
            found.retain(|&(code, ..)| code != "V_ZERO_ROW");
            found
        };
        assert_eq!(found(&frame, page(2), page(3)), by_page, "one page");
        assert_eq!(found(&frame, page(2), page(9)), by_page, "several pages");
        assert_eq!(found(&frame, page(2), all.len()), by_page, "to the end of the tensor");
        assert_eq!(
            found(&last, 200_000, all.len()),
            [("V_ZERO_PAGES", Severity::Fail, Some(200_072))],
            "a tail"
        );
        assert_eq!(found(&last, 250_000, all.len()), [], "a short tail of rows");
        assert_eq!(found(&frame, 10_000, 30_000), [], "rows");
        assert_eq!(found(&frame, 10_500, 30_100), maybe(10_572), "neither");
        assert_eq!(found(&frame, page(2), page(2) + 4000), [], "less than a page");
    }
}

#[test]
fn zeros_that_follow_a_pattern_of_the_matrix_are_ordinary() {
    let mut values = weights(16 * 4096);
    // Rows padded to 16 KiB, and a lower triangle.
    for row in values.chunks_mut(4096) {
        row[1000..].fill(0.0);
    }
    assert_eq!(found(&matrix(16, 4096, 72), &bytes_of(&values), 1 << 20), []);
    let mut values = weights(16 * 4096);
    for (index, row) in values.chunks_mut(4096).enumerate() {
        row[index * 256 + 1..].fill(0.0);
    }
    assert_eq!(found(&matrix(16, 4096, 72), &bytes_of(&values), 1 << 20), []);
    // Padding at the end of the rows of the last tensor of a file.
    let mut values = weights(4 * 16384);
    values.chunks_mut(16384).for_each(|row| row[8000..].fill(0.0));
    let last = Frame { is_last: true, ..matrix(4, 16384, 72) };
    assert_eq!(found(&last, &bytes_of(&values), 1 << 20), []);
    // A decoder of layers: whole slices, and rows within them.
    let mut values = weights(16 * 4096);
    values[..8 * 4096].fill(0.0);
    values[9 * 4096..11 * 4096].fill(0.0);
    let frame = Frame { shape: vec![4, 4, 4096], ..matrix(16, 4096, 72) };
    for block in [1 << 20, 16384, 32768] {
        assert_eq!(found(&frame, &bytes_of(&values), block), []);
    }
}

#[test]
fn whole_tensors_of_zeros_weigh_by_their_kind() {
    let all_zero = |frame: Frame| {
        let bytes = vec![0; usize::try_from(frame.len).unwrap_or(0)];
        found(&frame, &bytes, 1024).first().map(|&(code, severity, _)| (code, severity))
    };
    let frame = matrix(64, 64, 72);
    assert_eq!(all_zero(frame.clone()), Some(("V_ALL_ZERO", Severity::Warn)));
    let negative = bytes_of(&[-0.0; 4096]);
    assert_eq!(found(&frame, &negative, 1024), [("V_ALL_ZERO", Severity::Warn, Some(72))]);
    assert_eq!(all_zero(Frame { in_hole: true, ..frame.clone() }), Some(("V_ALL_ZERO", Severity::Fail)));
    assert_eq!(all_zero(Frame { shape: vec![4096], ..frame.clone() }), Some(("V_ALL_ZERO", Severity::Note)));
    assert_eq!(all_zero(Frame { dtype: Dtype::I32, ..frame.clone() }), None);
    let lost = Frame { dtype: Dtype::U8, shape: vec![16384], in_hole: true, ..frame };
    assert_eq!(all_zero(lost), Some(("V_ALL_ZERO", Severity::Fail)));
    assert_eq!(all_zero(matrix(2, 2, 72)), None);
}

#[test]
fn odd_rows_are_counted() {
    let mut values = weights(64 * 64);
    values[10 * 64..13 * 64].fill(0.0);
    values[20 * 64..21 * 64].fill(1e-40);
    values[30 * 64..31 * 64].iter_mut().for_each(|value| *value = value.signum() * 1e19);
    for block in [16384, 1024, 256] {
        let mut found = found(&matrix(64, 64, 8), &bytes_of(&values), block);
        found.retain(|&(code, ..)| code != "V_OUTLIER");
        let expected = [
            ("V_ZERO_ROW", Severity::Warn, Some(8 + 10 * 256)),
            ("V_SUBNORMAL", Severity::Note, Some(8 + 20 * 256)),
            ("V_ROW_NORM_OVERFLOW", Severity::Warn, Some(8 + 30 * 256)),
        ];
        assert_eq!(found, expected);
    }
    let huge: Vec<u8> = [1e200_f64; 32].iter().flat_map(|value| value.to_le_bytes()).collect();
    let frame = Frame { dtype: Dtype::F64, shape: vec![2, 16], len: 256, ..matrix(2, 16, 8) };
    assert_eq!(found(&frame, &huge, 256), [("V_ROW_NORM_OVERFLOW", Severity::Warn, Some(8))]);
}

#[test]
fn a_flipped_exponent_bit_is_an_outlier_and_heavy_tails_are_not() {
    let mut values = weights(64 * 1024);
    values[777] = 1e15;
    let bytes = bytes_of(&values);
    for block in BLOCKS {
        assert_eq!(
            found(&matrix(256, 256, 0), &bytes, block),
            [("V_OUTLIER", Severity::Warn, Some(4 * 777))]
        );
    }
    // Cauchy: the ratio of two Gaussian numbers.
    let tails: Vec<f32> = weights(64 * 1024).chunks(2).map(|pair| pair[0] / pair[1]).collect();
    for block in BLOCKS {
        assert_eq!(found(&matrix(128, 256, 0), &bytes_of(&tails), block), []);
    }
}

#[test]
fn swapped_bytes_are_suspected() {
    let plain = weights(64 * 64);
    let upcast: Vec<f32> = plain.iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).collect();
    for values in [plain, upcast] {
        let swapped: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        let found = found(&matrix(64, 64, 0), &swapped, 4096);
        assert!(found.contains(&("V_SUSPECT_ENDIAN", Severity::Warn, Some(0))), "{found:?}");
    }
}

#[test]
fn text_among_weights_is_found() {
    let mut bytes = bytes_of(&weights(64 * 64));
    let page = b"<html><head><title>502 Bad Gateway</title></head><body>try again later</body></html>";
    bytes[4001..4001 + page.len()].copy_from_slice(page);
    let found = found(&matrix(64, 64, 100), &bytes, 1 << 20);
    let text: Vec<_> = found.iter().filter(|one| one.0 == "V_FOREIGN_TEXT").collect();
    assert!(matches!(text[..], [(_, Severity::Warn, Some(4095..=4101))]), "{found:?}");
}
