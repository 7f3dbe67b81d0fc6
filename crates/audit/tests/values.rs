//! Special values by each dtype's own table, and where they are reported.

use unitrow_audit::values::{Values, look};
use unitrow_tensors::Dtype;

fn counts(dtype: Dtype, bytes: &[u8]) -> (u64, u64) {
    let counts = look(dtype, bytes, |offset| offset).counts.unwrap_or_default();
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
    let values = look(Dtype::C128, &bytes, |offset| offset);
    assert_eq!(values.example, [Some(0), Some(8), None], "either part of a complex number");
}

#[test]
fn every_other_dtype_has_no_special_values() {
    let bytes = [0xff; 48];
    for dtype in [Dtype::F4, Dtype::F6E2M3, Dtype::F6E3M2, Dtype::U8, Dtype::I16, Dtype::U32, Dtype::I64] {
        assert_eq!(look(dtype, &bytes, |offset| offset), Values::default(), "{dtype}");
    }
}

#[test]
fn booleans_are_0_or_1() {
    let values = look(Dtype::Bool, &[0, 1, 2, 255], |offset| 10 + offset);
    assert_eq!((values.bad_bool, values.example[2]), (2, Some(12)));
    let findings = values.findings("mask", Dtype::Bool, Some(100));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].code.name, findings[0].byte_offset), ("V_BAD_BOOL", Some(112)));
}

#[test]
fn merging_is_the_same_in_any_order_and_keeps_the_least_place() {
    let parts: Vec<Values> = [f32::NAN, 1.0, f32::INFINITY, f32::NAN]
        .iter()
        .enumerate()
        .map(|(index, value)| look(Dtype::F32, &value.to_le_bytes(), |offset| 4 * index as u64 + offset))
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
    let findings = all.findings("W_dec", Dtype::F32, None);
    let words: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(words, ["2 values are NaN, for example element 0", "one value is Inf, for example element 2"]);
}

#[test]
fn findings_of_a_tensor_come_in_the_order_of_their_offsets() {
    let bytes: Vec<u8> =
        [f32::INFINITY, 1.0, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    let findings = look(Dtype::F32, &bytes, |offset| offset).findings("W_dec", Dtype::F32, Some(8));
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
            let seen = look(Dtype::F32, &bytes, |offset| offset);
            assert_eq!(seen.example[0], Some(4 * place as u64), "{place} of {len}");
            let mut codes = vec![0_u8; len];
            codes[place..].fill(0x7c);
            let seen = look(Dtype::F8E5M2, &codes, |offset| offset);
            assert_eq!(seen.example, [None, Some(place as u64), None], "{place} of {len}");
        }
    }
}
