//! Gradient projection and the fused step against plain float64 and float32 transcriptions.

use crate::oracle::{Stream, decode, encode};
use unitrow_norms::{
    Adam, AdamTensors, Dtype, Error, Isa, Pool, Rows, RowsMut, adam_step, adam_step_with, normalize_rows,
    remove_parallel, remove_parallel_with, row_norms,
};

fn random(stream: &mut Stream, count: usize, dtype: Dtype) -> Vec<u8> {
    let values: Vec<_> = (0..count).map(|_| stream.normal()).collect();
    encode(&values, dtype)
}

/// The same elements with the two axes exchanged.
fn transpose(bytes: &[u8], size_bytes: usize, rows: usize, len: usize) -> Vec<u8> {
    (0..len)
        .flat_map(|column| (0..rows).map(move |row| (row * len + column) * size_bytes))
        .flat_map(|at| bytes[at..at + size_bytes].to_vec())
        .collect()
}

#[test]
fn projection_removes_what_is_parallel() {
    let mut stream = Stream(21);
    for (grad_dtype, row_dtype) in [
        (Dtype::F32, Dtype::F32),
        (Dtype::F64, Dtype::F64),
        (Dtype::F32, Dtype::Bf16),
        (Dtype::Bf16, Dtype::Bf16),
        (Dtype::F16, Dtype::F32),
        (Dtype::F8E5M2, Dtype::F32),
    ] {
        for len in [1, 2, 7, 64, 65, 300] {
            let count = 5;
            let rows = random(&mut stream, count * len, row_dtype);
            let grads = random(&mut stream, count * len, grad_dtype);
            let (row_values, grad_values) = (decode(&rows, row_dtype), decode(&grads, grad_dtype));
            let (mut reference, mut streamed) = (None, None);
            for isa in Isa::all_available() {
                let mut result = grads.clone();
                let target = RowsMut::contiguous(&mut result, grad_dtype, count, len, 1).unwrap();
                let along = Rows::contiguous(&rows, row_dtype, count, len, 1).unwrap();
                remove_parallel_with(isa, target, along, None).unwrap();
                assert!(*reference.get_or_insert_with(|| result.clone()) == result, "{isa}");

                let size_bytes = grad_dtype.size_bytes();
                let mut turned = transpose(&grads, size_bytes, count, len);
                let target = RowsMut::contiguous(&mut turned, grad_dtype, 1, len, count).unwrap();
                remove_parallel_with(isa, target, along, None).unwrap();
                assert!(turned == transpose(&result, size_bytes, count, len), "{isa} strided");

                // Both strided: streamed, with sums in another order.
                let turned_rows = transpose(&rows, row_dtype.size_bytes(), count, len);
                let along = Rows::contiguous(&turned_rows, row_dtype, 1, len, count).unwrap();
                let mut turned = transpose(&grads, size_bytes, count, len);
                let target = RowsMut::contiguous(&mut turned, grad_dtype, 1, len, count).unwrap();
                remove_parallel_with(isa, target, along, None).unwrap();
                assert!(*streamed.get_or_insert_with(|| turned.clone()) == turned, "{isa} streamed");
            }
            let turned_back = transpose(&streamed.unwrap(), grad_dtype.size_bytes(), len, count);
            for result in [reference.unwrap(), turned_back] {
                let result = decode(&result, grad_dtype);
                check_projection(&row_values, &grad_values, &result, len, grad_dtype);
            }
        }
    }
}

/// Every element within one rounding of the exact projection.
fn check_projection(rows: &[f64], grads: &[f64], found: &[f64], len: usize, dtype: Dtype) {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    for ((w, g), found) in rows.chunks(len).zip(grads.chunks(len)).zip(found.chunks(len)) {
        let along = dot(g, w) / dot(w, w);
        for ((g, w), found) in g.iter().zip(w).zip(found) {
            let exact = g - along * w;
            let scale = g.abs() + (along * w).abs();
            let rounding = (-f64::from(dtype.precision_bits())).exp2() * exact.abs()
                + dtype.min_subnormal() / 2.0
                + 1e-13 * scale;
            assert!((exact - found).abs() <= rounding, "{dtype} {len}: {exact:e} {found:e}");
        }
    }
}

#[test]
fn columns_without_a_direction_keep_every_bit() {
    // Of each column: its row, its gradient. Zero row, NaN row, infinite row, NaN gradient, no component, one.
    let nan = f32::from_bits(0x7fa1_2345);
    let columns: [[[f32; 2]; 2]; 6] = [
        [[0.0, 0.0], [1.0, 2.0]],
        [[nan, 1.0], [3.0, nan]],
        [[f32::INFINITY, 1.0], [5.0, 6.0]],
        [[1.0, 1.0], [nan, 8.0]],
        [[1.0, 0.0], [0.0, 10.0]],
        [[3.0, 4.0], [3.0, 4.0]],
    ];
    let bytes = |part: usize| -> Vec<u8> {
        (0..2)
            .flat_map(|row| columns.iter().flat_map(move |column| column[part][row].to_le_bytes()))
            .collect()
    };
    let (rows, before) = (bytes(0), bytes(1));
    for isa in Isa::all_available() {
        let mut grads = before.clone();
        let target = RowsMut::contiguous(&mut grads, Dtype::F32, 1, 2, 6).unwrap();
        let rows = Rows::contiguous(&rows, Dtype::F32, 1, 2, 6).unwrap();
        let counts = remove_parallel_with(isa, target, rows, None).unwrap();
        assert_eq!((counts.changed, counts.unchanged, counts.zero, counts.nonfinite), (1, 1, 1, 3), "{isa}");
        let mut expected = before.clone();
        for row in 0..2 {
            expected[(row * 6 + 5) * 4..][..4].fill(0);
        }
        assert!(grads == expected, "{isa}");
    }
}

#[test]
fn projection_of_extremes() {
    let check = |row: [f64; 2], grad: [f64; 2], expected: [f64; 2]| {
        let rows = encode(&row, Dtype::F64);
        let mut grads = encode(&grad, Dtype::F64);
        let target = RowsMut::contiguous(&mut grads, Dtype::F64, 1, 2, 1).unwrap();
        let counts =
            remove_parallel(target, Rows::contiguous(&rows, Dtype::F64, 1, 2, 1).unwrap(), None).unwrap();
        let found = decode(&grads, Dtype::F64);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-15 || found.is_nan() && expected.is_nan(),
                "{row:?}: {found:e}"
            );
        }
        counts
    };
    check([1e200, 1e200], [1.0, 0.0], [0.5, -0.5]);
    check([1e-200, 1e-200], [1.0, 0.0], [0.5, -0.5]);
    assert_eq!(check([0.0, 0.0], [1.0, 2.0], [1.0, 2.0]).zero, 1);
    assert_eq!(check([f64::NAN, 1.0], [1.0, 2.0], [1.0, 2.0]).nonfinite, 1);
    assert_eq!(check([1.0, 1.0], [f64::NAN, 2.0], [f64::NAN, 2.0]).nonfinite, 1);
    let mut grads = [0; 16];
    let target = RowsMut::contiguous(&mut grads, Dtype::F32, 2, 2, 1).unwrap();
    let rows = [0; 12];
    let rows = Rows::contiguous(&rows, Dtype::F32, 1, 3, 1).unwrap();
    assert!(matches!(remove_parallel(target, rows, None), Err(Error::Shape { .. })));
}

/// Parameters, gradients, averages and squares as bytes.
#[derive(Clone, PartialEq)]
struct State {
    dtypes: [Dtype; 2],
    params: Vec<u8>,
    master: Option<Vec<u8>>,
    grads: Vec<u8>,
    exp_avg: Vec<u8>,
    exp_avg_sq: Vec<u8>,
}

impl State {
    fn new(stream: &mut Stream, count: usize, dtypes: [Dtype; 2], with_master: bool) -> Self {
        let master = with_master.then(|| random(stream, count, Dtype::F32));
        let params = match &master {
            Some(master) => encode(&decode(master, Dtype::F32), dtypes[0]),
            None => random(stream, count, dtypes[0]),
        };
        let grads = random(stream, count, dtypes[0]);
        let squares: Vec<_> = (0..count).map(|_| stream.normal().abs()).collect();
        Self {
            dtypes,
            params,
            master,
            grads,
            exp_avg: random(stream, count, dtypes[1]),
            exp_avg_sq: encode(&squares, dtypes[1]),
        }
    }

    fn step(&mut self, isa: Isa, shape: [usize; 3], options: &Adam, pool: Option<&Pool>) {
        let [outer, len, inner] = shape;
        let [dtype, moments] = self.dtypes;
        let tensors = AdamTensors {
            params: RowsMut::contiguous(&mut self.params, dtype, outer, len, inner).unwrap(),
            master: (self.master.as_mut())
                .map(|master| RowsMut::contiguous(master, Dtype::F32, outer, len, inner).unwrap()),
            grads: Rows::contiguous(&self.grads, dtype, outer, len, inner).unwrap(),
            exp_avg: RowsMut::contiguous(&mut self.exp_avg, moments, outer, len, inner).unwrap(),
            exp_avg_sq: RowsMut::contiguous(&mut self.exp_avg_sq, moments, outer, len, inner).unwrap(),
        };
        adam_step_with(isa, tensors, options, pool).unwrap();
    }
}

#[test]
fn without_the_constraint_it_is_adam() {
    let mut stream = Stream(22);
    for (weight_decay, decoupled, maximize) in [(0.0, false, false), (0.1, false, true), (0.1, true, false)] {
        for betas in [(0.9, 0.999), (0.0, 0.99), (0.3, 0.5)] {
            let options = Adam {
                lr: 1e-2,
                betas,
                weight_decay,
                decoupled,
                maximize,
                step: 3,
                unit_norm: false,
                ..Adam::default()
            };
            let before = State::new(&mut stream, 6 * 70, [Dtype::F32; 2], false);
            let mut after = before.clone();
            after.step(Isa::detect(), [6, 70, 1], &options, None);
            let read = |bytes: &[u8]| decode(bytes, Dtype::F32);
            let (params, grads) = (read(&before.params), read(&before.grads));
            let (averages, squares) = (read(&before.exp_avg), read(&before.exp_avg_sq));
            for (index, found) in read(&after.params).into_iter().enumerate() {
                let mut param = params[index];
                let mut grad = if maximize { -grads[index] } else { grads[index] };
                if decoupled {
                    param *= 1.0 - options.lr * weight_decay;
                } else {
                    grad += weight_decay * param;
                }
                let average = betas.0 * averages[index] + (1.0 - betas.0) * grad;
                let square = betas.1 * squares[index] + (1.0 - betas.1) * grad * grad;
                let corrected = average / (1.0 - betas.0.powi(3));
                let root = (square / (1.0 - betas.1.powi(3))).sqrt();
                let expected = param - options.lr * corrected / (root + options.eps);
                let rounding = 2e-7 * (param.abs() + 1e-2 * 10.0);
                assert!((found - expected).abs() <= rounding, "{options:?}: {found} {expected}");
            }
        }
    }
}

#[test]
fn every_isa_layout_and_thread_count_steps_alike() {
    let mut stream = Stream(23);
    let shape = [150, 200, 1];
    let usual = Adam { lr: 1e-2, ..Adam::default() };
    let decoupled = Adam { weight_decay: 0.01, decoupled: true, ..usual };
    let coupled = Adam { weight_decay: 0.01, maximize: true, betas: (0.4, 0.999), ..usual };
    for (dtypes, with_master, options) in [
        ([Dtype::F32, Dtype::F32], false, usual),
        ([Dtype::F32, Dtype::F32], false, decoupled),
        ([Dtype::F32, Dtype::F32], false, coupled),
        ([Dtype::F32, Dtype::F32], false, Adam { unit_norm: false, ..coupled }),
        ([Dtype::F32, Dtype::Bf16], false, decoupled),
        ([Dtype::Bf16, Dtype::Bf16], false, decoupled),
        ([Dtype::Bf16, Dtype::F32], true, decoupled),
    ] {
        let mut start = State::new(&mut stream, shape[0] * shape[1], dtypes, with_master);
        // Two rows without a direction.
        for row in start.params.chunks_exact_mut(shape[1] * dtypes[0].size_bytes()).step_by(100) {
            row.fill(0);
        }
        let mut reference = start.clone();
        reference.step(Isa::all_available()[0], shape, &options, None);
        for isa in Isa::all_available() {
            let mut state = start.clone();
            state.step(isa, shape, &options, None);
            assert!(state == reference, "{isa} {dtypes:?} {options:?}");
        }
        for threads in 2..=3 {
            let mut state = start.clone();
            state.step(Isa::detect(), shape, &options, Some(&Pool::new(threads).unwrap()));
            assert!(state == reference, "{threads} threads");
        }
        let turn = |state: &State| State {
            dtypes,
            params: transpose(&state.params, dtypes[0].size_bytes(), 150, 200),
            master: state.master.as_ref().map(|master| transpose(master, 4, 150, 200)),
            grads: transpose(&state.grads, dtypes[0].size_bytes(), 150, 200),
            exp_avg: transpose(&state.exp_avg, dtypes[1].size_bytes(), 150, 200),
            exp_avg_sq: transpose(&state.exp_avg_sq, dtypes[1].size_bytes(), 150, 200),
        };
        let mut turned = turn(&start);
        turned.step(Isa::all_available()[0], [1, 200, 150], &options, None);
        for isa in Isa::all_available() {
            for threads in 1..=3 {
                let mut state = turn(&start);
                state.step(isa, [1, 200, 150], &options, Some(&Pool::new(threads).unwrap()));
                assert!(state == turned, "strided {isa} {dtypes:?} {threads} threads");
            }
        }
        // Scalar products of columns are summed in another order: equal to rounding.
        let expected = decode(&turn(&reference).params, dtypes[0]);
        for (found, expected) in decode(&turned.params, dtypes[0]).into_iter().zip(expected) {
            let ulp = (1.0 - f64::from(dtypes[0].precision_bits())).exp2() * expected.abs().max(1e-3);
            assert!((found - expected).abs() <= 2.0 * ulp, "strided {dtypes:?}: {found} {expected}");
        }
    }
}

#[test]
fn without_the_constraint_rows_may_end_anywhere() {
    let start = State::new(&mut Stream(26), 6 * 70, [Dtype::F32; 2], false);
    let options = Adam { lr: 1e-2, weight_decay: 0.1, unit_norm: false, ..Adam::default() };
    for isa in Isa::all_available() {
        let [whole, short, single] = [[6, 70, 1], [60, 7, 1], [420, 1, 1]].map(|shape| {
            let mut state = start.clone();
            state.step(isa, shape, &options, None);
            state
        });
        assert!(whole == short && whole == single, "{isa}: blocks of a row, its rest and its last elements");
    }
}

#[test]
fn rows_stay_unit() {
    let mut stream = Stream(24);
    let (count, len) = (40, 200);
    for (dtypes, with_master) in [
        ([Dtype::F32, Dtype::F32], false),
        ([Dtype::Bf16, Dtype::F32], false),
        ([Dtype::Bf16, Dtype::F32], true),
    ] {
        let mut state = State::new(&mut stream, count * len, dtypes, with_master);
        for step in 1..=5 {
            state.grads = random(&mut stream, count * len, dtypes[0]);
            let options = Adam { lr: 1e-2, step, ..Adam::default() };
            state.step(Isa::detect(), [count, len, 1], &options, None);
            // The rounding bound itself is what renormalisation goes by: it finds nothing to do.
            let (bytes, dtype) = match &state.master {
                Some(master) => (master.clone(), Dtype::F32),
                None => (state.params.clone(), dtypes[0]),
            };
            let mut copy = bytes.clone();
            let rows = RowsMut::contiguous(&mut copy, dtype, count, len, 1).unwrap();
            assert_eq!(
                normalize_rows(rows, unitrow_norms::Normalize::default(), None).unwrap().unchanged,
                count
            );
            assert!(copy == bytes);
            let mut norms = vec![0.0; count];
            row_norms(Rows::contiguous(&bytes, dtype, count, len, 1).unwrap(), &mut norms, None).unwrap();
            let unit = (-f64::from(dtype.precision_bits())).exp2();
            assert!(norms.iter().all(|norm| (norm - 1.0).abs() <= unit));
            if let Some(master) = &state.master {
                assert!(encode(&decode(master, Dtype::F32), dtypes[0]) == state.params);
            }
        }
    }
}

/// Parameters and averages after one step from moments of zero.
fn stepped(rows: &[f32], grads: &[f32], shape: [usize; 3], options: &Adam) -> (Vec<f32>, Vec<f32>) {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let values =
        |bytes: &[u8]| bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect::<Vec<_>>();
    let zero = vec![0; 4 * rows.len()];
    let mut state = State {
        dtypes: [Dtype::F32; 2],
        params: bytes(rows),
        master: None,
        grads: bytes(grads),
        exp_avg: zero.clone(),
        exp_avg_sq: zero,
    };
    state.step(Isa::detect(), shape, options, None);
    (values(&state.params), values(&state.exp_avg))
}

#[expect(clippy::cast_possible_truncation, reason = "the rounding that is asked for")]
fn f32s(values: impl IntoIterator<Item = f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn the_constrained_step_against_plain_arithmetic() {
    let mut stream = Stream(25);
    for (len, maximize, weight_decay) in [(200, false, 0.0), (128, true, 0.1), (7, false, 0.1)] {
        let rows = f32s((0..5 * len).map(|_| stream.normal()));
        let grads = f32s((0..5 * len).map(|_| stream.normal()));
        let options = Adam { lr: 1e-2, maximize, weight_decay, ..Adam::default() };
        let (params, averages) = stepped(&rows, &grads, [5, len, 1], &options);
        let found = params.chunks(len).zip(averages.chunks(len));
        for ((row, grad), (param, average)) in rows.chunks(len).zip(grads.chunks(len)).zip(found) {
            let (row, grad): (Vec<_>, Vec<_>) = (widen(row), widen(grad));
            let along = dot(&row, &grad) / dot(&row, &row);
            let sign = if maximize { -1.0 } else { 1.0 };
            let projected: Vec<_> =
                (row.iter().zip(&grad)).map(|(w, g)| sign * (g - w * along) + weight_decay * w).collect();
            // The first step of Adam goes by the sign of the gradient.
            let updated: Vec<_> = (row.iter().zip(&projected))
                .map(|(w, g)| w - options.lr * g / (g.abs() + options.eps))
                .collect();
            let norm = dot(&updated, &updated).sqrt();
            for (index, (param, average)) in param.iter().zip(average).enumerate() {
                assert!((f64::from(*average) - 0.1 * projected[index]).abs() < 1e-6, "{len} {index}");
                assert!((f64::from(*param) - updated[index] / norm).abs() < 1e-6, "{len} {index}");
            }
        }
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

#[test]
fn rows_of_extreme_norm_lose_what_is_parallel() {
    // Their squares leave the range of float32: sums in that left all of the gradient, or more.
    let mut stream = Stream(26);
    let len = 70;
    let direction: Vec<_> = (0..len).map(|_| stream.normal()).collect();
    let length = dot(&direction, &direction).sqrt();
    for scale in [1e-23, 1e-21, 1.0, 1e19, 1e30] {
        let rows = f32s(direction.iter().map(|value| value * scale));
        for gradient in [1e-30, 1.0, 1e20] {
            // The component itself is a float32.
            if !(1e-30..1e37).contains(&(gradient / scale)) {
                continue;
            }
            let grads = f32s(direction.iter().map(|value| value / length * gradient));
            let options = Adam { betas: (0.0, 0.999), ..Adam::default() };
            let twice = |row: &[f32]| row.iter().flat_map(|value| [*value; 2]).collect::<Vec<_>>();
            let along_last = stepped(&rows, &grads, [1, len, 1], &options).1;
            let strided = stepped(&twice(&rows), &twice(&grads), [1, len, 2], &options).1;
            for left in [widen(&along_last), widen(&strided)] {
                assert!(dot(&left, &left).sqrt() < 1e-6 * gradient, "{scale:e} {gradient:e} {left:?}");
            }
        }
    }
}

#[test]
fn a_still_step_divides_rows_of_any_norm() {
    let still = Adam { lr: 0.0, ..Adam::default() };
    for scale in [1e-38_f32, 1e-30, 1e-7, 1e-5, 0.3, 1e5, 1e7, 1e37] {
        let row: Vec<f32> = (1_u8..=10).map(|value| f32::from(value) * scale / 7.0).collect();
        let (params, _) = stepped(&row, &[0.0; 10], [1, 10, 1], &still);
        let exact = widen(&row);
        let norm = dot(&exact, &exact).sqrt();
        for (param, exact) in params.iter().zip(exact) {
            assert!((f64::from(*param) * norm / exact - 1.0).abs() < 6.1e-8, "{scale:e} {params:?}");
        }
    }
}

#[test]
fn zeros_keep_their_sign() {
    // 1 / norm is split in two parts, and a negative zero times a negative second part is a positive zero.
    let still = Adam { lr: 0.0, ..Adam::default() };
    for first in 1_u8..100 {
        let (params, _) = stepped(&[f32::from(first), -0.0, 0.0, 1.3], &[0.0; 4], [1, 4, 1], &still);
        assert!(params[1].is_sign_negative() && params[2].is_sign_positive(), "{params:?}");
    }
}

#[test]
fn rows_of_ties_are_within_their_bound() {
    // Every quotient lies next to the middle of two numbers, and all are rounded the same way: a row at the very
    // end of its bound, where what the division in float32 may add counts.
    let mut stream = Stream(27);
    let still = Adam { lr: 0.0, ..Adam::default() };
    for _ in 0..60 {
        let significand = (1 << 23) + (stream.bits() >> 41);
        let side = if stream.bits() >> 63 == 0 { 1.0 } else { -1.0 };
        let nudge = side * (8.0 + 24.0 * stream.uniform()) * 0.5_f64.powi(53);
        let tie = (2 * significand + 1) as f64 * 0.5_f64.powi(27) * (1.0 + nudge);
        // 1 / tie², digit by digit in base 4: as many elements of each magnitude as make the norm 1 / tie.
        let mut left = 1.0 / (tie * tie);
        let mut magnitudes = Vec::new();
        for digit in 0..26 {
            let square = 0.25_f64.powi(digit);
            while left >= square {
                left -= square;
                magnitudes.push(0.5_f64.powi(digit));
            }
        }
        let len = magnitudes.len();
        let firsts: Vec<_> = (0..200).map(|_| 1.0 + stream.uniform()).collect();
        let rows: Vec<f32> = firsts
            .iter()
            .flat_map(|first| f32s(magnitudes.iter().map(|size| f64::from(f32s([*first])[0]) * size)))
            .collect();
        let (params, _) = stepped(&rows, &vec![0.0; rows.len()], [200, len, 1], &still);
        let mut bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = RowsMut::contiguous(&mut bytes, Dtype::F32, 200, len, 1).unwrap();
        let found = normalize_rows(view, unitrow_norms::Normalize::default(), None).unwrap();
        assert_eq!(found.changed, 0, "{len} elements");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let run = |options: &Adam, dtype: Dtype| {
        let mut bytes = [[0_u8; 64]; 4];
        let [params, grads, exp_avg, exp_avg_sq] = &mut bytes;
        let size = 4 * dtype.size_bytes();
        let tensors = AdamTensors {
            params: RowsMut::contiguous(&mut params[..size], dtype, 2, 2, 1).unwrap(),
            master: None,
            grads: Rows::contiguous(&grads[..size], dtype, 2, 2, 1).unwrap(),
            exp_avg: RowsMut::contiguous(&mut exp_avg[..16], Dtype::F32, 2, 2, 1).unwrap(),
            exp_avg_sq: RowsMut::contiguous(&mut exp_avg_sq[..16], Dtype::F32, 2, 2, 1).unwrap(),
        };
        adam_step(tensors, options, None)
    };
    assert!(run(&Adam::default(), Dtype::F32).is_ok());
    assert!(matches!(run(&Adam::default(), Dtype::F16), Err(Error::Dtype { .. })));
    for options in [
        Adam { lr: -1.0, ..Adam::default() },
        Adam { lr: f64::NAN, ..Adam::default() },
        Adam { betas: (1.0, 0.9), ..Adam::default() },
        Adam { betas: (0.9, -0.1), ..Adam::default() },
        Adam { eps: -1e-8, ..Adam::default() },
        Adam { step: 0, ..Adam::default() },
    ] {
        assert!(matches!(run(&options, Dtype::F32), Err(Error::Parameter { .. })), "{options:?}");
    }
}
