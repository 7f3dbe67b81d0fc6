//! What memory allows: loops that read and write as kernels do, and compute next to nothing.
//!
//! `cargo bench -p unitrow-norms --bench memory`; one thread, 151 MB a stream.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line([f32; 16]);

/// Lines of a matrix row of 16384.
const ROW: usize = 1024;
/// Rows of the matrix.
const ROWS: usize = 2304;
const LINES: usize = ROWS * ROW;

/// By so many lines places and streams are moved against each other, or all would begin in one set of the first-level
/// cache.
const APART: usize = 9;

/// A stream, which is to be read or written from the line on that stands in its second half.
fn stream(number: usize) -> (Vec<Line>, usize) {
    let first = number * APART;
    (vec![Line([1.0; 16]); first + LINES], first)
}

fn size(streams: usize) -> BytesCount {
    BytesCount::new(streams * LINES * size_of::<Line>())
}

/// Lines of each of `places` parts.
fn part(places: usize) -> usize {
    if places == 1 { LINES } else { LINES / places - APART }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "called in loops of one line")]
fn add(sums: &mut [u32; 16], line: &Line) {
    for (sum, value) in sums.iter_mut().zip(line.0) {
        *sum = sum.wrapping_add(value.to_bits());
    }
}

/// Reads a line in turn from each of `PLACES` parts: norms along the last axis, from one place or four.
#[divan::bench(consts = [1, 2, 4, 8])]
fn read<const PLACES: usize>(bencher: Bencher) {
    let (lines, _) = stream(0);
    bencher.counter(size(1)).bench(|| {
        let (lines, part, mut sums) = (black_box(&lines), part(PLACES), [0; 16]);
        for index in 0..part {
            for place in 0..PLACES {
                add(&mut sums, &lines[place * part + index]);
            }
        }
        sums
    });
}

/// Reads eight rows of a 2304 x 16384 matrix, four lines of each in turn: norms along a strided axis on AVX-512.
#[divan::bench]
fn read_rows_in_pieces(bencher: Bencher) {
    let (lines, _) = stream(0);
    bencher.counter(size(1)).bench(|| {
        let (lines, mut sums) = (black_box(&lines), [0; 16]);
        for rows in lines.chunks_exact(8 * ROW) {
            for index in (0..ROW).step_by(4) {
                for row in 0..8 {
                    for line in &rows[row * ROW + index..][..4] {
                        add(&mut sums, line);
                    }
                }
            }
        }
        sums
    });
}

/// Reads `AT_A_TIME` rows of that matrix a line in turn: norms along a strided axis elsewhere.
#[divan::bench(consts = [1, 4, 8, 16])]
fn read_rows<const AT_A_TIME: usize>(bencher: Bencher) {
    let (lines, _) = stream(0);
    bencher.counter(size(1)).bench(|| {
        let (lines, mut sums) = (black_box(&lines), [0; 16]);
        for rows in lines.chunks_exact(AT_A_TIME * ROW) {
            for index in 0..ROW {
                for row in 0..AT_A_TIME {
                    add(&mut sums, &rows[row * ROW + index]);
                }
            }
        }
        sums
    });
}

/// Multiplies in place by a constant, from `PLACES` places in turn: renormalisation without norms.
#[divan::bench(consts = [1, 4])]
fn scale<const PLACES: usize>(bencher: Bencher) {
    let (mut lines, _) = stream(0);
    bencher.counter(size(2)).bench_local(|| {
        let (lines, part) = (black_box(&mut lines), part(PLACES));
        for index in 0..part {
            for place in 0..PLACES {
                let line = &mut lines[place * part + index];
                line.0 = line.0.map(|value| value * 0.999);
            }
        }
    });
}

/// Lines of a row of 2304.
const SHORT_ROW: usize = 144;

/// Reads the next row while one is multiplied in place by a constant, from `PLACES` places in turn: renormalisation
/// without arithmetic.
#[divan::bench(consts = [1, 4])]
fn read_next_and_scale<const PLACES: usize>(bencher: Bencher) {
    let (mut lines, _) = stream(0);
    bencher.counter(size(2)).bench_local(|| {
        let (lines, rows) = (black_box(&mut lines), part(PLACES) / SHORT_ROW);
        let mut sums = [0; 16];
        for row in 0..rows - 1 {
            for index in row * SHORT_ROW..(row + 1) * SHORT_ROW {
                for place in 0..PLACES {
                    let at = place * part(PLACES) + index;
                    add(&mut sums, &lines[at + SHORT_ROW]);
                    lines[at].0 = lines[at].0.map(|value| value * 0.999);
                }
            }
        }
        sums
    });
}

/// Reads four streams and writes three of them, from `PLACES` places of each in turn: a step of Adam without roots
/// and quotients.
#[divan::bench(consts = [1, 2, 4])]
fn read_four_write_three<const PLACES: usize>(bencher: Bencher) {
    let [(grads, g), (mut params, p), (mut averages, a), (mut squares, s)] = [0, 1, 2, 3].map(stream);
    bencher.counter(size(7)).bench_local(|| {
        let grads = &black_box(&grads)[g..][..LINES];
        let params = &mut black_box(&mut params)[p..][..LINES];
        let averages = &mut black_box(&mut averages)[a..][..LINES];
        let squares = &mut black_box(&mut squares)[s..][..LINES];
        let part = part(PLACES);
        for index in 0..part {
            for line in (0..PLACES).map(|place| place * part + index) {
                let grad = grads[line].0;
                let mut param = params[line].0;
                for (value, grad) in param.iter_mut().zip(grad) {
                    *value += grad;
                }
                params[line].0 = param;
                averages[line].0 = averages[line].0.map(|value| value * 0.999);
                squares[line].0 = squares[line].0.map(|value| value * 0.999);
            }
        }
    });
}
