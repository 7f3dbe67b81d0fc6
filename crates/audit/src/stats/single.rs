//! Sums of squares in float32, in the orders that kernels of the field use. Tests hold them to the plain forms
//! in the norms crate, bit for bit.

/// Sums of squares of one row, by number of running sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LaneSums {
    pub(super) sequential: f32,
    pub(super) lanes8: f32,
    pub(super) lanes16: f32,
    pub(super) lanes32: f32,
}

/// All orders with running sums in one pass; the one running sum hides behind the others.
pub(super) fn lane_sums(row: &[f32]) -> LaneSums {
    let mut sequential = 0.0;
    let mut eight = [0.0; 8];
    let mut sixteen = [0.0; 16];
    let mut thirty_two = [0.0; 32];
    let (whole, rest) = row.as_chunks::<32>();
    for values in whole {
        let squares = values.map(|value| value * value);
        add(&mut thirty_two, &squares);
        for half in squares.as_chunks::<16>().0 {
            add(&mut sixteen, half);
        }
        for quarter in squares.as_chunks::<8>().0 {
            add(&mut eight, quarter);
        }
        sequential = squares.iter().fold(sequential, |sum, square| sum + square);
    }
    for (place, value) in rest.iter().enumerate() {
        let square = value * value;
        thirty_two[place] += square;
        sixteen[place % 16] += square;
        eight[place % 8] += square;
        sequential += square;
    }
    LaneSums { sequential, lanes8: fold(&eight), lanes16: fold(&sixteen), lanes32: fold(&thirty_two) }
}

/// Eight running sums.
pub(super) fn lanes8(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<8>();
    lanes8_of(whole.iter().copied(), rest.iter().copied())
}

/// Eight running sums over float32 numbers as they lie in memory.
pub(super) fn lanes8_of_bytes(row: &[u8]) -> f32 {
    let (whole, rest) = row.as_chunks::<32>();
    let single = |item: &[u8; 4]| f32::from_le_bytes(*item);
    let eight = |items: &[u8; 32]| {
        let (items, _) = items.as_chunks::<4>();
        std::array::from_fn(|lane| single(&items[lane]))
    };
    lanes8_of(whole.iter().map(eight), rest.as_chunks::<4>().0.iter().map(single))
}

#[inline]
fn lanes8_of(whole: impl Iterator<Item = [f32; 8]>, rest: impl Iterator<Item = f32>) -> f32 {
    let mut sums = [0.0; 8];
    for values in whole {
        add(&mut sums, &values.map(|value| value * value));
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value * value;
    }
    fold(&sums)
}

/// One running sum per row of `rows`, which lie one after the other. Rows advance together: each sum waits for
/// itself only.
pub(super) fn sequential(rows: &[f32], len: usize, sums: &mut Vec<f32>) {
    sums.clear();
    let mut groups = rows.chunks_exact(8 * len);
    for group in groups.by_ref() {
        let mut running = [0.0; 8];
        let rows: [&[f32]; 8] = std::array::from_fn(|row| &group[row * len..][..len]);
        for place in 0..len {
            for (sum, row) in running.iter_mut().zip(rows) {
                *sum += row[place] * row[place];
            }
        }
        sums.extend(running);
    }
    for row in groups.remainder().chunks_exact(len) {
        sums.push(row.iter().fold(0.0, |sum, value| sum + value * value));
    }
}

/// Halves, summed separately, down to runs of at most eight.
pub(super) fn pairwise(row: &[f32]) -> f32 {
    if row.len() <= 8 {
        return row.iter().fold(0.0, |sum, value| sum + value * value);
    }
    let (left, right) = row.split_at(row.len() / 2);
    pairwise(left) + pairwise(right)
}

fn add<const N: usize>(sums: &mut [f32; N], squares: &[f32; N]) {
    for (sum, square) in sums.iter_mut().zip(squares) {
        *sum += square;
    }
}

/// Left to right.
fn fold(sums: &[f32]) -> f32 {
    sums.iter().skip(1).fold(sums[0], |total, sum| total + sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unitrow_norms::{Dtype, Rows, Summation, float32_norm};

    fn plain(rows: &[f32], len: usize, way: Summation) -> Vec<f32> {
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut norms = vec![0.0; rows.len() / len];
        let view = Rows::contiguous(&bytes, Dtype::F32, norms.len(), len, 1).unwrap();
        float32_norm(view, way, &mut norms).unwrap();
        norms
    }

    #[test]
    fn every_order_has_the_bits_of_its_plain_form() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(0x3f00_0000 | state >> 9) - 0.7
        };
        for len in [1, 2, 7, 8, 9, 31, 32, 33, 100, 384, 1000] {
            let rows: Vec<f32> = std::iter::repeat_with(&mut noise).take(19 * len).collect();
            let mut sums = Vec::new();
            sequential(&rows, len, &mut sums);
            let one_sum = plain(&rows, len, Summation::Sequential);
            assert_eq!(sums.iter().map(|sum| sum.sqrt()).collect::<Vec<_>>(), one_sum);
            for (row, first) in rows.chunks_exact(len).zip(one_sum) {
                let sums = lane_sums(row);
                assert_eq!(sums.sequential.sqrt(), first);
                assert_eq!(vec![sums.lanes8.sqrt()], plain(row, len, Summation::Lanes8));
                assert_eq!(lanes8(row), sums.lanes8);
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(lanes8_of_bytes(&bytes), sums.lanes8);
                assert_eq!(vec![sums.lanes16.sqrt()], plain(row, len, Summation::Lanes16));
                assert_eq!(vec![sums.lanes32.sqrt()], plain(row, len, Summation::Lanes32));
                assert_eq!(vec![pairwise(row).sqrt()], plain(row, len, Summation::Pairwise));
            }
        }
    }
}
