//! Rows out of a matrix that stores them as columns.

/// Tile edge: a tile of 8-byte items and its transpose stay in the first-level cache.
const TILE: usize = 32;

/// Copies `count` rows from `first` of a row-major `len` × `stride` matrix of `item` -byte elements whose rows are
/// its columns: element i of row r stands at `i * stride + r`. `rows` is replaced by `count * len` elements.
///
/// Returns `false`, with `rows` empty, where the matrix does not hold these rows.
#[must_use]
pub fn gather_rows(
    matrix: &[u8],
    item: usize,
    len: usize,
    stride: usize,
    first: usize,
    count: usize,
    rows: &mut Vec<u8>,
) -> bool {
    rows.clear();
    let whole = len.checked_mul(stride).and_then(|items| items.checked_mul(item));
    let inside = first.checked_add(count).is_some_and(|end| end <= stride);
    if item == 0 || !inside || whole != Some(matrix.len()) {
        return false;
    }
    rows.resize(count * len * item, 0);
    match item {
        1 => transpose::<1>(matrix, len, stride, first, rows),
        2 => transpose::<2>(matrix, len, stride, first, rows),
        4 => transpose::<4>(matrix, len, stride, first, rows),
        8 => transpose::<8>(matrix, len, stride, first, rows),
        _ => {
            rows.clear();
            return false;
        }
    }
    true
}

fn transpose<const N: usize>(matrix: &[u8], len: usize, stride: usize, first: usize, rows: &mut [u8]) {
    let (source, _) = matrix.as_chunks::<N>();
    let (target, _) = rows.as_chunks_mut::<N>();
    if len == 0 {
        return;
    }
    let count = target.len() / len;
    for column in (0..count).step_by(TILE) {
        let columns = column..(column + TILE).min(count);
        for line in (0..len).step_by(TILE) {
            for i in line..(line + TILE).min(len) {
                let from = &source[i * stride + first + columns.start..i * stride + first + columns.end];
                for (r, value) in columns.clone().zip(from) {
                    target[r * len + i] = *value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_window_of_columns_equals_the_plain_transpose() {
        let (len, stride) = (37, 70);
        let matrix: Vec<u8> =
            (0..len * stride).flat_map(|i| u16::try_from(i).unwrap().to_le_bytes()).collect();
        for (first, count) in [(0, 70), (3, 40), (69, 1), (5, 0)] {
            let mut rows = vec![9];
            assert!(gather_rows(&matrix, 2, len, stride, first, count, &mut rows));
            for r in 0..count {
                for i in 0..len {
                    let at = 2 * (r * len + i);
                    let found = u16::from_le_bytes([rows[at], rows[at + 1]]);
                    assert_eq!(usize::from(found), i * stride + first + r);
                }
            }
        }
        assert!(!gather_rows(&matrix, 2, len, stride, 60, 11, &mut Vec::new()));
        assert!(!gather_rows(&matrix, 3, len, stride, 0, 1, &mut Vec::new()));
        assert!(!gather_rows(&matrix[1..], 2, len, stride, 0, 1, &mut Vec::new()));
    }
}
