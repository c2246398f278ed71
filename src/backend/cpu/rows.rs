//! Functions of whole rows: softmax and normalization over the last axes.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::norm::{Center, RowNorm, Rows, row_norm_telling};
use crate::kernels::softmax::{Form, softmax, softmax_columns, softmax_in_place};
use crate::ops::nn::{LayerNormalization, LogSoftmax, RmsNormalization, Softmax};
use crate::tensor::DType;

/// Softmax or its logarithm along an axis of `n` elements that lie `inner` apart.
#[derive(Debug)]
pub(super) struct SoftmaxRows {
    isa: Isa,
    form: Form,
    n: usize,
    inner: usize,
    outer: usize,
}

impl SoftmaxRows {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (form, axis) = match (spec.op::<Softmax>(), spec.op::<LogSoftmax>()) {
            (Some(op), _) => (Form::Softmax, op.axis),
            (_, Some(op)) => (Form::LogSoftmax, op.axis),
            _ => return Ok(None),
        };
        let Some(shape) = spec.shape(0).filter(|s| spec.all(DType::F32) && s.rank() > 0) else { return Ok(None) };
        let axis = shape.axis(axis)?;
        Ok(Some(SoftmaxRows {
            isa,
            form,
            n: shape[axis],
            inner: shape[axis + 1..].iter().product(),
            outer: shape[..axis].iter().product(),
        }))
    }
}

impl Kernel for SoftmaxRows {
    fn name(&self) -> String {
        format!("softmax over {}", self.n)
    }

    fn division(&self) -> Division {
        Division::units(self.outer, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (isa, form, n, row) = (self.isa, self.form, self.n, self.n * self.inner);
        let (y, share) = (io.output(0)?, io.share());
        if self.inner == 1 && io.in_place() == Some(0) {
            softmax_in_place(isa, form, n, 1.0, None, 0, y);
            return Ok(());
        }
        let x = &io.input(0)?[share.start * row..share.end * row];
        if self.inner == 1 {
            softmax(isa, form, n, 1.0, None, 0, x, y);
        } else {
            softmax_columns(isa, form, n, self.inner, x, y);
        }
        Ok(())
    }
}

/// LayerNorm or RMSNorm over the last axes.
#[derive(Debug)]
pub(super) struct NormRows {
    isa: Isa,
    center: Center,
    cols: usize,
    epsilon: f32,
    shift: bool,
    rows: usize,
}

impl NormRows {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (center, axis, epsilon) = match (spec.op::<LayerNormalization>(), spec.op::<RmsNormalization>()) {
            (Some(op), _) => (Center::Mean, op.axis, op.epsilon),
            (_, Some(op)) => (Center::Zero, op.axis, op.epsilon),
            _ => return Ok(None),
        };
        let Some(shape) = spec.shape(0).filter(|_| spec.all(DType::F32)) else { return Ok(None) };
        let cols: usize = shape[shape.axis(axis)?..].iter().product();
        let whole = |index: usize| spec.shape(index).is_none_or(|s| s.elements() == cols);
        let more = spec.instruction.outputs.iter().skip(1).any(Option::is_some);
        let fits = !more && spec.input(1).is_some() && whole(1) && whole(2);
        Ok(fits.then(|| NormRows {
            isa,
            center,
            cols,
            epsilon,
            shift: spec.input(2).is_some(),
            rows: shape.elements().checked_div(cols).unwrap_or(0),
        }))
    }
}

impl Kernel for NormRows {
    fn name(&self) -> String {
        format!("norm of {}", self.cols)
    }

    fn division(&self) -> Division {
        Division::units(self.rows, 1)
    }

    fn tells_extremes(&self) -> bool {
        true
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let share = io.share();
        let shift: Option<&[f32]> = if self.shift { Some(io.input(2)?) } else { None };
        let norm =
            RowNorm { center: self.center, cols: self.cols, epsilon: self.epsilon, scale: Some(io.input(1)?), shift };
        let x = if io.in_place() == Some(0) {
            None
        } else {
            Some(&io.input(0)?[share.start * self.cols..share.end * self.cols])
        };
        let rows = Rows { x, ..Rows::default() };
        row_norm_telling(self.isa, &norm, rows, None, io.output(0)?, context.extremes);
        Ok(())
    }
}
