//! Adam on rows of unit length.

use crate::dispatch::Isa;
use crate::kernel::adam::Step;
use crate::kernel::range::RowRange;
use crate::kernel::stream::StepColumns;
use crate::parallel::{part_of, run_parts};
use crate::renorm::{Normalize, Normalized, normalize_rows_with};
use crate::rows::{Layout, zeros};
use crate::tangent::column_components;
use crate::{Dtype, Error, Pool, Rows, RowsMut};

/// Hyperparameters, by the names and with the meaning of `torch.optim.Adam` and `AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running averages of gradient and squared gradient.
    pub betas: (f64, f64),
    /// Added to the root of the averaged square.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Decay the parameters themselves (`AdamW`) rather than adding to the gradient (`Adam`).
    pub decoupled: bool,
    /// Ascend.
    pub maximize: bool,
    /// Number of this step, counted from 1.
    pub step: u64,
    /// Remove the gradient's component along each row before the step, and renormalise each row after it.
    pub unit_norm: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            maximize: false,
            step: 1,
            unit_norm: true,
        }
    }
}

/// The tensors of one parameter: the same rows in each, at any strides.
#[derive(Debug)]
pub struct AdamTensors<'a> {
    /// Parameters, f32 or bf16.
    pub params: RowsMut<'a>,
    /// f32 copy of bf16 parameters which accumulates the steps; `params` then receives its rounding.
    pub master: Option<RowsMut<'a>>,
    /// Gradients, f32 or bf16; not written.
    pub grads: Rows<'a>,
    /// Running average of the gradient, f32 or bf16.
    pub exp_avg: RowsMut<'a>,
    /// Running average of the squared gradient, f32 or bf16.
    pub exp_avg_sq: RowsMut<'a>,
}

/// Where weight decay applies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decay {
    None,
    Gradient,
    Decoupled,
}

/// What a step computes once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    pub(crate) unit_norm: bool,
    pub(crate) decay: Decay,
    pub(crate) weight_is_small: bool,
    pub(crate) sign: f32,
    pub(crate) shrink: f32,
    pub(crate) weight_decay: f32,
    pub(crate) beta1: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    pub(crate) inverse_correction2_sqrt: f32,
    pub(crate) eps: f32,
    pub(crate) minus_step_size: f32,
}

impl Adam {
    #[expect(clippy::cast_possible_truncation, reason = "the step is float32 arithmetic")]
    pub(crate) fn coefficients(&self) -> Coefficients {
        let (beta1, beta2) = self.betas;
        let step = self.step as f64;
        Coefficients {
            unit_norm: self.unit_norm,
            decay: if self.weight_decay == 0.0 {
                Decay::None
            } else if self.decoupled {
                Decay::Decoupled
            } else {
                Decay::Gradient
            },
            weight_is_small: 1.0 - beta1 < 0.5,
            sign: if self.maximize { -1.0 } else { 1.0 },
            shrink: (1.0 - self.lr * self.weight_decay) as f32,
            weight_decay: self.weight_decay as f32,
            // As torch interpolates: its weight is float32.
            beta1: 1.0 - (1.0 - beta1) as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            inverse_correction2_sqrt: (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32,
            eps: self.eps as f32,
            minus_step_size: -(self.lr / (1.0 - beta1.powf(step))) as f32,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let parameter = |name, value: f64, is_fine: bool| {
            if is_fine { Ok(()) } else { Err(Error::Parameter { name, value: value.to_string() }) }
        };
        let is_rate = |beta: f64| (0.0..1.0).contains(&beta);
        parameter("lr", self.lr, self.lr >= 0.0 && self.lr.is_finite())?;
        parameter("betas[0]", self.betas.0, is_rate(self.betas.0))?;
        parameter("betas[1]", self.betas.1, is_rate(self.betas.1))?;
        parameter("eps", self.eps, self.eps >= 0.0 && self.eps.is_finite())?;
        parameter(
            "weight_decay",
            self.weight_decay,
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
        )?;
        parameter("step", self.step as f64, self.step > 0)
    }
}

impl Coefficients {
    /// What the gradient, in the direction of descent, gains for each unit of the parameter when it loses its
    /// component along a row; nothing where float32 cannot hold it.
    pub(crate) fn pull(&self, along: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the step is float32 arithmetic")]
        let along = along as f32;
        if along.is_finite() { -self.sign * along } else { 0.0 }
    }
}

/// One step of Adam, fused per row.
///
/// Float32 arithmetic in the order of `torch.optim.Adam(fused=True)`, to whose result it is equal to rounding
/// where `unit_norm` is off. With `unit_norm` each gradient row first loses its component along its row, and
/// each updated row is renormalised: divided by its float64 norm and rounded once to the stored format, unless
/// it is within its rounding bound, as [`crate::normalize_rows`] sees it, already. In float32 the quotient is
/// taken to 2⁻⁴⁶, so that an element near the middle of two numbers may become the other one. Returns what became of the rows (`unchanged` all where `unit_norm` is off).
///
/// # Errors
/// [`Error::Parameter`] for a hyperparameter out of range, [`Error::Dtype`] for a tensor that is neither f32
/// nor bf16 (the master: not f32), [`Error::Shape`] where the tensors disagree.
pub fn adam_step(tensors: AdamTensors<'_>, options: &Adam, pool: Option<&Pool>) -> Result<Normalized, Error> {
    adam_step_with(Isa::detect(), tensors, options, pool)
}

/// [`adam_step`] on a chosen instruction set; the bits are the same on all of them.
///
/// # Errors
/// As [`adam_step`].
pub fn adam_step_with(
    isa: Isa,
    tensors: AdamTensors<'_>,
    options: &Adam,
    pool: Option<&Pool>,
) -> Result<Normalized, Error> {
    options.check()?;
    let AdamTensors { params, master, grads, exp_avg, exp_avg_sq } = tensors;
    let mut layouts = vec![params.layout];
    let others = [("grads", grads.layout), ("exp_avg", exp_avg.layout), ("exp_avg_sq", exp_avg_sq.layout)];
    for (what, layout) in others.into_iter().chain(master.as_ref().map(|master| ("master", master.layout))) {
        params.layout.check_same_rows(what, &layout)?;
        if !(layout.dtype == Dtype::F32 || layout.dtype == Dtype::Bf16 && what != "master") {
            return Err(Error::Dtype { what, found: layout.dtype });
        }
        layouts.push(layout);
    }
    if !matches!(params.layout.dtype, Dtype::F32 | Dtype::Bf16) {
        return Err(Error::Dtype { what: "params", found: params.layout.dtype });
    }
    let coefficients = options.coefficients();
    let all_f32 = layouts.iter().all(|layout| layout.dtype == Dtype::F32);
    let same_shape = layouts.iter().all(|layout| layout.shape == params.layout.shape);
    if all_f32 && same_shape && master.is_none() && layouts.iter().all(Layout::is_columns) {
        return step_columns(isa, [params, exp_avg, exp_avg_sq], grads, coefficients, pool);
    }
    let part = part_of(&layouts, pool);
    let mut masters = master.map(|master| RowRange::whole(master).split(part));
    let parts: Vec<_> = RowRange::whole(params)
        .split(part)
        .zip(RowRange::whole(exp_avg).split(part).zip(RowRange::whole(exp_avg_sq).split(part)))
        .map(|(params, (exp_avg, exp_avg_sq))| {
            let master = masters.as_mut().and_then(Iterator::next);
            Step { params, master, grads, exp_avg, exp_avg_sq, coefficients }
        })
        .collect();
    Ok(run_parts(pool, parts, |step| isa.run(step)))
}

/// The step along a strided axis: scalar products of columns, the step in the order of memory, and then norms
/// and division as [`crate::normalize_rows`] does them.
fn step_columns(
    isa: Isa,
    [mut params, exp_avg, exp_avg_sq]: [RowsMut<'_>; 3],
    grads: Rows<'_>,
    coefficients: Coefficients,
    pool: Option<&Pool>,
) -> Result<Normalized, Error> {
    let count = params.count();
    let pulls = if coefficients.unit_norm {
        let (along, _) = column_components(isa, grads, params.as_rows(), pool)?;
        along.into_iter().map(|along| coefficients.pull(along)).collect()
    } else {
        zeros(count)?
    };
    let grads = grads.transposed();
    let layouts = [params.layout.transposed(), grads.layout, exp_avg.layout.transposed()];
    let part = part_of(&layouts, pool);
    let moments = RowRange::whole(exp_avg.transposed())
        .split(part)
        .zip(RowRange::whole(exp_avg_sq.transposed()).split(part));
    let parts: Vec<_> = RowRange::whole(params.reborrow().transposed())
        .split(part)
        .zip(moments)
        .map(|(params, (exp_avg, exp_avg_sq))| StepColumns {
            params,
            grads,
            exp_avg,
            exp_avg_sq,
            pulls: &pulls,
            coefficients,
        })
        .collect();
    run_parts(pool, parts, |step| isa.run(step));
    if !coefficients.unit_norm {
        return Ok(Normalized { unchanged: count, ..Normalized::default() });
    }
    normalize_rows_with(isa, params, Normalize::default(), pool)
}
