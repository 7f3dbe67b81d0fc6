//! Signed histogram of (norm - 1): one bin around 0, then powers of two outwards on both sides.
//!
//! Float32 rounding fills the few bins in the middle, casts the next, and rows that nothing constrains the outermost.

/// Magnitudes at which one bin ends and the next begins, as exponents of 2.
const EXPONENTS: [i32; 15] = [-25, -24, -23, -22, -20, -18, -16, -14, -12, -10, -8, -6, -4, -2, 0];

const BINS: usize = 2 * EXPONENTS.len() + 1;

/// The edges between bins, ascending; the first and last bin are open.
pub(super) fn edges() -> Vec<f64> {
    let positive: Vec<f64> = EXPONENTS.iter().map(|&exponent| super::grid::power_of_two(exponent)).collect();
    positive.iter().rev().map(|edge| -edge).chain(positive.iter().copied()).collect()
}

/// Counts per bin. A deviation on an edge counts in the bin farther from 0.
pub(super) fn counts(deviations: impl Iterator<Item = f64>) -> Vec<u64> {
    let limits: Vec<f64> = EXPONENTS.iter().map(|&exponent| super::grid::power_of_two(exponent)).collect();
    let mut bins = vec![0; BINS];
    for deviation in deviations {
        let steps = limits.partition_point(|&limit| limit <= deviation.abs());
        let middle = EXPONENTS.len();
        bins[if deviation < 0.0 { middle - steps } else { middle + steps }] += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_symmetric_and_edges_count_outwards() {
        let edges = edges();
        assert_eq!(edges.len() + 1, BINS);
        assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
        let up = counts([0.0, 1e-9, edges[15], 0.3, 7.0].into_iter());
        let down = counts([0.0, -1e-9, edges[14], -0.3, -7.0].into_iter());
        assert_eq!(up, down.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(up[15], 2);
        assert_eq!((up[16], up[29], up[30]), (1, 1, 1));
    }
}
