//! Which kernel computes a step: the first family that takes it, and the reference evaluation where none does.

use super::attention::Attend;
use super::branch::Branch;
use super::byte_maps::{ByteZip, Lookup};
use super::byte_pooling::ByteWindow;
use super::byte_rows::ByteRows;
use super::cascade::Cascade;
use super::computed_integers::{ComputedIntegers, ComputedProduct};
use super::convolution::Convolution;
use super::elementwise::{Copy, Map, Select, Zip};
use super::elementwise_steps::Steps;
use super::indices::{PickPlaces, PutPlaces};
use super::integer_convolution::{ConvolutionSums, IntegerConvolution};
use super::integer_product::{IntegerProduct, IntegerSums};
use super::kernel::{Kernel, Spec};
use super::lines::{Places, RunningSum};
use super::movement::{Padded, Pick, Runs, Strided};
use super::normalization::GroupRows;
use super::plain_maps::{Choice, Limits, Negation};
use super::pooling::{Global, Window};
use super::product::Product;
use super::quantization::{Dequantize, DynamicQuantize, Quantize};
use super::ranged::{QuantizeInRange, ranged};
use super::recurrent::Recurrent;
use super::reduction::{Convert, Fold};
use super::reference::Reference;
use super::resizing::Resizing;
use super::rows::{NormRows, SoftmaxRows};
use super::told::Told;
use super::top::{Top, Triangle};
use super::transposed_convolution::TransposedConvolution;
use super::weight_only::WeightOnly;
use crate::backend::Slot;
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::ops::Op;
use crate::ops::elementwise::{Binary, Clip, Unary, UnaryKind, Variadic};
use crate::ops::fused::{self, ChannelsLast, Elementwise, Epilogue};
use crate::ops::nn::{LayerNormalization, LogSoftmax, Softmax};
use crate::ops::quant::MatMulNBits;
use crate::tensor::DType;

type Family = fn(&Spec<'_>, Isa) -> Result<Option<Box<dyn Kernel>>>;

/// The families in the order in which they are asked.
const FAMILIES: &[Family] = &[
    |spec, isa| boxed(Product::new(spec, isa)?),
    |spec, isa| boxed(Convolution::new(spec, isa)?),
    |spec, isa| boxed(Cascade::new(spec, isa)?),
    |spec, isa| boxed(TransposedConvolution::new(spec, isa)?),
    |spec, isa| boxed(WeightOnly::new(spec, isa)?),
    |spec, isa| boxed(Attend::new(spec, isa)?),
    |spec, isa| boxed(Map::new(spec, isa)?),
    |spec, isa| boxed(Zip::new(spec, isa)?),
    |spec, isa| boxed(Select::new(spec, isa)?),
    |spec, isa| boxed(Steps::new(spec, isa)?),
    |spec, isa| boxed(Limits::new(spec, isa)?),
    |spec, isa| boxed(Choice::new(spec, isa)?),
    |spec, isa| boxed(Negation::new(spec, isa)?),
    |spec, isa| boxed(SoftmaxRows::new(spec, isa)?),
    |spec, isa| boxed(NormRows::new(spec, isa)?),
    |spec, isa| boxed(GroupRows::new(spec, isa)?),
    |spec, isa| boxed(Copy::new(spec, isa)?),
    // Before the kernels that go by what inference says.
    |spec, isa| boxed(Told::new(spec, isa)?),
    |spec, isa| boxed(Strided::new(spec, isa)?),
    |spec, isa| boxed(Runs::new(spec, isa)?),
    |spec, isa| boxed(Pick::new(spec, isa)?),
    |spec, isa| boxed(Padded::new(spec, isa)?),
    |spec, isa| boxed(PickPlaces::new(spec, isa)?),
    |spec, isa| boxed(PutPlaces::new(spec, isa)?),
    |spec, isa| boxed(Top::new(spec, isa)?),
    |spec, isa| boxed(Triangle::new(spec, isa)?),
    |spec, isa| boxed(Recurrent::new(spec, isa)?),
    |spec, isa| boxed(Resizing::new(spec, isa)?),
    |spec, isa| boxed(Window::new(spec, isa)?),
    |spec, isa| boxed(Global::new(spec, isa)?),
    |spec, isa| boxed(Fold::new(spec, isa)?),
    |spec, isa| boxed(Convert::new(spec, isa)?),
    |spec, isa| boxed(RunningSum::new(spec, isa)?),
    |spec, isa| boxed(Places::new(spec, isa)?),
    |spec, isa| boxed(Branch::new(spec, isa)?),
    |spec, isa| boxed(IntegerConvolution::new(spec, isa)?),
    |spec, isa| boxed(IntegerProduct::new(spec, isa)?),
    |spec, isa| boxed(IntegerSums::new(spec, isa)?),
    |spec, isa| boxed(ComputedIntegers::new(spec, isa)?),
    |spec, isa| boxed(ComputedProduct::new(spec, isa)?),
    |spec, isa| boxed(ConvolutionSums::new(spec, isa)?),
    |spec, isa| boxed(ByteZip::new(spec, isa)?),
    |spec, isa| boxed(Lookup::new(spec, isa)?),
    |spec, isa| boxed(ByteWindow::new(spec, isa)?),
    |spec, isa| boxed(ByteRows::new(spec, isa)?),
    |spec, isa| boxed(Quantize::new(spec, isa)?),
    |spec, isa| boxed(Dequantize::new(spec, isa)?),
    |spec, isa| boxed(DynamicQuantize::new(spec, isa)?),
    |spec, isa| boxed(QuantizeInRange::new(spec, isa)?),
    ranged,
];

fn boxed<K: Kernel + 'static>(kernel: Option<K>) -> Result<Option<Box<dyn Kernel>>> {
    Ok(kernel.map(|kernel| Box::new(kernel) as Box<dyn Kernel>))
}

pub(super) fn lower(spec: &Spec<'_>, isa: Isa) -> Result<Box<dyn Kernel>> {
    for family in FAMILIES {
        if let Some(kernel) = family(spec, isa)? {
            return Ok(kernel);
        }
    }
    Ok(Box::new(Reference { op: spec.instruction.op.clone() }))
}

/// The input that a step may overwrite: of f32 steps whose kernels work in place.
pub(super) fn in_place(op: &dyn Op, inputs: &[Option<&Slot>], outputs: &[Option<&Slot>]) -> Option<usize> {
    let output = outputs.first().copied().flatten()?;
    let op = op.downcast_ref::<fused::Ranged>().map_or(op, |ranged| ranged.op.as_ref());
    if output.dtype != DType::F32 {
        return None;
    }
    let same = |index: &usize| {
        inputs.get(*index).copied().flatten().is_some_and(|s| s.dtype == DType::F32 && s.shape == output.shape)
    };
    let epilogue = op.downcast_ref::<Epilogue>().or_else(|| op.downcast_ref::<ChannelsLast>()?.op.downcast_ref());
    if let Some(epilogue) = epilogue {
        // Where K comes in chunks, the output holds sums while the residual waits.
        return epilogue.residual_index().filter(|_| !epilogue.op.is::<MatMulNBits>()).filter(same);
    }
    if op.is::<Elementwise>() {
        return (0..inputs.len()).find(same);
    }
    let pairwise = op.is::<Binary>() || (op.is::<Variadic>() && inputs.len() == 2);
    let rowwise = op.is::<Softmax>() || op.is::<LogSoftmax>() || op.is::<LayerNormalization>();
    let maps = op.is::<Clip>() || op.downcast_ref::<Unary>().is_some_and(|Unary(kind)| *kind != UnaryKind::Identity);
    if pairwise {
        [0, 1].into_iter().find(same)
    } else if maps || (rowwise && last_axis(op, output)) {
        Some(0).filter(same)
    } else {
        None
    }
}

/// Whether a function of rows runs over the last axis, where it can overwrite its input.
fn last_axis(op: &dyn Op, output: &Slot) -> bool {
    let axis = match (op.downcast_ref::<Softmax>(), op.downcast_ref::<LogSoftmax>()) {
        (Some(op), _) => op.axis,
        (_, Some(op)) => op.axis,
        _ => return true,
    };
    output.shape.as_ref().is_some_and(|shape| shape.axis(axis).is_ok_and(|axis| axis + 1 == shape.rank()))
}
