//! Elements of any stored type as float64, exactly.

use unitrow_norms::Dtype;

/// Reads `bytes` (little endian, any alignment) as elements and writes them to `values`, replacing what was there.
pub(super) fn widen(bytes: &[u8], dtype: Dtype, values: &mut Vec<f64>) {
    values.clear();
    match dtype {
        Dtype::F64 => values.extend(items(bytes).map(f64::from_le_bytes)),
        Dtype::F32 => values.extend(items(bytes).map(|item| f64::from(f32::from_le_bytes(item)))),
        Dtype::Bf16 => {
            let widened = |item| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(item)) << 16));
            values.extend(items(bytes).map(widened));
        }
        Dtype::F16 => {
            values.extend(items(bytes).map(|item| dtype.decode(u64::from(u16::from_le_bytes(item)))));
        }
        _ => values.extend(bytes.iter().map(|&byte| dtype.decode(u64::from(byte)))),
    }
}

fn items<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_widens_as_it_decodes() {
        for dtype in Dtype::ALL {
            let width = dtype.size_bytes();
            let bytes: Vec<u8> = (0..64 * 8).map(|i: u32| (i * 37 % 251) as u8).collect();
            let mut values = vec![1.0];
            widen(&bytes, dtype, &mut values);
            assert_eq!(values.len(), bytes.len() / width);
            for (item, value) in bytes.chunks_exact(width).zip(values) {
                let mut word = [0; 8];
                word[..width].copy_from_slice(item);
                let expected = dtype.decode(u64::from_le_bytes(word));
                assert!(expected.to_bits() == value.to_bits() || expected.is_nan() && value.is_nan());
            }
        }
    }
}
