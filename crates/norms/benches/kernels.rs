//! Each kernel beside a plain read of the same bytes.
//!
//! `cargo bench -p unitrow-norms --bench kernels`; one thread.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use unitrow_norms::{Dtype, Isa, Rows, row_norms_counted_with, row_norms_with, value_counts};

fn main() {
    no_intrinsic_is_a_call();
    divan::main();
}

/// Where a kernel lost its target features, as in a closure that was not inlined, its intrinsics are functions of their
/// own: results stay the same, and each operation takes several times as long.
fn no_intrinsic_is_a_call() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    // In two parts: as one it would find itself.
    let symbol = [b"core_arch".as_slice(), b"3x86"].concat();
    let found = program.windows(symbol.len() + 32).find(|part| {
        let module = part.strip_prefix(symbol.as_slice()).unwrap_or_default();
        // To look which instruction sets there are is a call.
        module.first().is_some_and(u8::is_ascii_digit) && !module.starts_with(b"5xsave")
    });
    assert!(found.is_none(), "not inlined: {}", found.unwrap_or_default().escape_ascii());
}

/// The shape of a released transcoder's decoder, and one that stays in the second-level cache.
const SHAPES: [(usize, usize); 3] = [(16384, 2304), (256, 2304), (64, 2304)];

/// Bytes of normal numbers of every format: all exponents near that of 0.02, all fractions.
fn bytes(dtype: Dtype, count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(count * dtype.size_bytes());
    for _ in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = ((state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0) * 0.05;
        let value = if value.abs() < 0.02 { 0.02 } else { value };
        bytes.extend_from_slice(&dtype.encode(value).to_le_bytes()[..dtype.size_bytes()]);
    }
    bytes
}

#[divan::bench(args = [(Dtype::F32, SHAPES[0]), (Dtype::F32, SHAPES[1]), (Dtype::F32, SHAPES[2]), (Dtype::Bf16, SHAPES[0])])]
fn plain_read(bencher: Bencher, (dtype, (outer, len)): (Dtype, (usize, usize))) {
    let bytes = bytes(dtype, outer * len);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let words = black_box(&bytes).as_chunks::<8>().0;
        words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    });
}

fn shapes() -> impl Iterator<Item = (Dtype, (usize, usize))> {
    Dtype::ALL.into_iter().take(6).flat_map(|dtype| SHAPES.map(|shape| (dtype, shape)))
}

#[divan::bench(args = shapes())]
fn last_axis(bencher: Bencher, (dtype, (outer, len)): (Dtype, (usize, usize))) {
    let bytes = bytes(dtype, outer * len);
    let rows = Rows::contiguous(&bytes, dtype, outer, len, 1).unwrap();
    let mut norms = vec![0.0; outer];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| row_norms_with(Isa::detect(), black_box(rows), &mut norms, None));
}

#[divan::bench(args = Isa::all_available())]
fn last_axis_f32_in_cache_by_isa(bencher: Bencher, isa: Isa) {
    let bytes = bytes(Dtype::F32, 256 * 2304);
    let rows = Rows::contiguous(&bytes, Dtype::F32, 256, 2304, 1).unwrap();
    let mut norms = vec![0.0; 256];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| row_norms_with(isa, black_box(rows), &mut norms, None));
}

#[divan::bench(args = shapes())]
fn last_axis_counted(bencher: Bencher, (dtype, (outer, len)): (Dtype, (usize, usize))) {
    let bytes = bytes(dtype, outer * len);
    let rows = Rows::contiguous(&bytes, dtype, outer, len, 1).unwrap();
    let mut norms = vec![0.0; outer];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| row_norms_counted_with(Isa::detect(), black_box(rows), &mut norms, None));
}

#[divan::bench(args = shapes())]
fn strided_axis(bencher: Bencher, (dtype, (inner, len)): (Dtype, (usize, usize))) {
    let bytes = bytes(dtype, inner * len);
    let rows = Rows::contiguous(&bytes, dtype, 1, len, inner).unwrap();
    let mut norms = vec![0.0; inner];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| row_norms_with(Isa::detect(), black_box(rows), &mut norms, None));
}

#[divan::bench(args = [Dtype::F32, Dtype::Bf16, Dtype::F8E4M3])]
fn counts_alone(bencher: Bencher, dtype: Dtype) {
    let bytes = bytes(dtype, 16384 * 2304);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| value_counts(black_box(&bytes), dtype));
}
