//! Reading the header of a checkpoint of 100,000 tensors, beside the reference reader on the same bytes.

use std::fmt::Write;
use std::path::Path;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// A file as the reference writer orders it, of `count` tensors of one byte.
fn file(count: usize) -> Vec<u8> {
    let mut header = String::from("{");
    for index in 0..count {
        let separator = if index == 0 { "" } else { "," };
        let end = index + 1;
        let _ = write!(
            header,
            "{separator}\"model.layers.{index:06}.w\":{{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[{index},{end}]}}"
        );
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + count, 1);
    bytes
}

const COUNTS: [usize; 2] = [100, 100_000];

#[divan::bench(args = COUNTS)]
fn read_table(bencher: Bencher<'_, '_>, count: usize) {
    let bytes = file(count);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        unitrow_tensors::read_table_from(black_box(&bytes[..]), Path::new("model.safetensors"))
            .map(|table| table.tensors.len())
    });
}

#[divan::bench(args = COUNTS)]
fn reference_read_metadata(bencher: Bencher<'_, '_>, count: usize) {
    let bytes = file(count);
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench_local(|| safetensors::SafeTensors::read_metadata(black_box(&bytes)).map(|(len, _)| len));
}
