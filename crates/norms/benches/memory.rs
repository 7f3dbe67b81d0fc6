//! What memory allows: loops that read and write as kernels do, and compute next to nothing.
//!
//! `cargo bench -p unitrow-norms --bench memory`; one thread, 151 MB a stream.

use std::array::from_fn;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const ROWS: usize = 16384;
const LENGTH: usize = 2304;

/// Elements of a cache line.
const LINE: usize = 16;

fn stream() -> Vec<f32> {
    vec![1.0; ROWS * LENGTH]
}

fn size(streams: usize) -> BytesCount {
    BytesCount::new(streams * ROWS * LENGTH * size_of::<f32>())
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "called in loops of one line")]
fn add(sums: &mut [u32; LINE], line: &[f32; LINE]) {
    for (sum, value) in sums.iter_mut().zip(line) {
        *sum = sum.wrapping_add(value.to_bits());
    }
}

/// Reads a line in turn from each of `PLACES` equal parts: norms along the last axis, from one place or four.
#[divan::bench(consts = [1, 2, 4, 8])]
fn read<const PLACES: usize>(bencher: Bencher) {
    let values = stream();
    bencher.counter(size(1)).bench(|| {
        let lines = black_box(&values).as_chunks::<LINE>().0;
        let part = lines.len() / PLACES;
        let mut sums = [0; LINE];
        for index in 0..part {
            for place in 0..PLACES {
                add(&mut sums, &lines[place * part + index]);
            }
        }
        sums
    });
}

/// Reads `AT_A_TIME` rows of a 2304 x 16384 matrix a line in turn: norms along a strided axis.
#[divan::bench(consts = [1, 4, 8])]
fn read_rows<const AT_A_TIME: usize>(bencher: Bencher) {
    let values = stream();
    bencher.counter(size(1)).bench(|| {
        let lines = black_box(&values).as_chunks::<LINE>().0;
        let mut sums = [0; LINE];
        for rows in lines.chunks_exact(AT_A_TIME * ROWS / LINE) {
            for index in 0..ROWS / LINE {
                for row in 0..AT_A_TIME {
                    add(&mut sums, &rows[row * ROWS / LINE + index]);
                }
            }
        }
        sums
    });
}

/// Multiplies in place by a constant, from `PLACES` places in turn: renormalisation without norms.
#[divan::bench(consts = [1, 4])]
fn scale<const PLACES: usize>(bencher: Bencher) {
    let mut values = stream();
    bencher.counter(size(2)).bench_local(|| {
        let lines = black_box(&mut values).as_chunks_mut::<LINE>().0;
        let part = lines.len() / PLACES;
        for index in 0..part {
            for place in 0..PLACES {
                for value in &mut lines[place * part + index] {
                    *value *= 0.999;
                }
            }
        }
    });
}

/// Reads four streams and writes three of them, from `PLACES` places of each in turn: a step of Adam without roots
/// and quotients.
#[divan::bench(consts = [1, 2, 4])]
fn read_four_write_three<const PLACES: usize>(bencher: Bencher) {
    let (grads, mut params, mut averages, mut squares) = (stream(), stream(), stream(), stream());
    bencher.counter(size(7)).bench_local(|| {
        let grads = black_box(&grads).as_chunks::<LINE>().0;
        let params = black_box(&mut params).as_chunks_mut::<LINE>().0;
        let averages = black_box(&mut averages).as_chunks_mut::<LINE>().0;
        let squares = black_box(&mut squares).as_chunks_mut::<LINE>().0;
        let part = grads.len() / PLACES;
        for index in 0..part {
            for line in (0..PLACES).map(|place| place * part + index) {
                averages[line] = averages[line].map(|value| value * 0.9);
                squares[line] = squares[line].map(|value| value * 0.999);
                let (param, grad) = (params[line], grads[line]);
                params[line] = from_fn(|lane| param[lane] + grad[lane]);
            }
        }
    });
}
