//! `Resize`, and `Upsample` read into it: attributes, target lengths, and the walk over the axes.
//!
//! Interpolation is separable: each axis is resized on its own by a table of taps ([`super::taps`]).

use super::taps::{self, Coordinates, Filter, Nearest, Taps};
use crate::error::{Result, bail, ensure};
use crate::ops::elementwise::{Variadic, VariadicKind};
use crate::ops::layout::arithmetic::{distinct_axes, lengths_of, list_len, output_shape};
use crate::ops::layout::strided::{FILL, mapped};
use crate::ops::numeric::from_f64;
use crate::ops::reader::Operand;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};
use std::sync::Arc;

/// What the wanted sizes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AspectPolicy {
    /// The lengths themselves.
    #[default]
    Stretch,
    /// The largest result of the same proportions that is nowhere longer.
    NotLarger,
    /// The smallest result of the same proportions that is nowhere shorter.
    NotSmaller,
}

impl AspectPolicy {
    fn as_str(self) -> &'static str {
        match self {
            AspectPolicy::Stretch => "stretch",
            AspectPolicy::NotLarger => "not_larger",
            AspectPolicy::NotSmaller => "not_smaller",
        }
    }
}

/// Samples x at another resolution. Inputs are x, the optional region `[starts.., ends..]` (for
/// [`Coordinates::CropAndResize`] alone), and either scales or sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// How an element is made of its neighbors.
    pub filter: Filter,
    /// Where an element of the result lies in x.
    pub coordinates: Coordinates,
    /// Whether a filter is stretched over all the elements that shrink into one.
    pub antialias: bool,
    /// Whether neighbors outside x weigh nothing, rather than repeating its edge.
    pub exclude_outside: bool,
    /// What stands outside x, for [`Coordinates::CropAndResize`].
    pub extrapolation_value: f32,
    /// The axes that the other inputs speak of; without them, all.
    pub axes: Option<Vec<i64>>,
    /// What sizes mean.
    pub aspect: AspectPolicy,
}

impl Resize {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let old = node.op_type() == "Upsample" || node.opset() < 11;
        let coordinates = match node.str("coordinate_transformation_mode")? {
            Some(name) => Coordinates::from_name(&name)?,
            None if old => Coordinates::Asymmetric,
            None => Coordinates::HalfPixel,
        };
        let nearest = match node.str("nearest_mode")? {
            Some(name) => Nearest::from_name(&name)?,
            None if old => Nearest::Floor,
            None => Nearest::RoundPreferFloor,
        };
        let cubic = node.float_or("cubic_coeff_a", -0.75)?;
        let filter = match node.str_or("mode", "nearest")?.as_str() {
            "nearest" => Filter::Nearest(nearest),
            "linear" | "bilinear" => Filter::Linear,
            "cubic" => Filter::Cubic { a: cubic },
            other => bail!(InvalidModel, "mode {other:?} is none of nearest, linear and cubic"),
        };
        let aspect = match node.str_or("keep_aspect_ratio_policy", "stretch")?.as_str() {
            "stretch" => AspectPolicy::Stretch,
            "not_larger" => AspectPolicy::NotLarger,
            "not_smaller" => AspectPolicy::NotSmaller,
            other => bail!(InvalidModel, "keep_aspect_ratio_policy {other:?} is not known"),
        };
        let op = Resize {
            filter,
            coordinates,
            antialias: node.flag_or("antialias", false)?,
            exclude_outside: node.flag_or("exclude_outside", false)?,
            extrapolation_value: node.float_or("extrapolation_value", 0.0)?,
            axes: node.ints("axes")?,
            aspect,
        };
        if !old {
            return Ok(op.into());
        }
        if node.op_type() == "Resize" && matches!(op.filter, Filter::Nearest(_)) {
            return Ok(nearest_of_opset_10(op));
        }
        // Two inputs, x and scales, where today the region stands between them.
        let scales = match node.floats("scales")? {
            Some(scales) => Operand::Constant(Tensor::vector(scales)),
            None => Operand::Input(1),
        };
        let region = Operand::Constant(Tensor::vector(Vec::<f32>::new()));
        Ok(Reading::Nodes(vec![(Arc::new(op), vec![Operand::Input(0), region, scales])]))
    }

    /// The axes that scales, sizes and the region speak of.
    fn resized_axes(&self, rank: usize) -> Result<Vec<usize>> {
        match &self.axes {
            Some(axes) => distinct_axes(axes, rank),
            None => Ok((0..rank).collect()),
        }
    }

    /// Lengths and scale of each axis of the result, where scales or sizes are constant.
    fn targets(&self, dims: &[Dim], inputs: Inputs<'_, Fact>) -> Result<Vec<(Dim, Option<f64>)>> {
        let axes = self.resized_axes(dims.len())?;
        let mut targets: Vec<(Dim, Option<f64>)> = dims.iter().map(|dim| (dim.clone(), None)).collect();
        let count = |given: usize| {
            ensure!(given == axes.len(), Shape, "{given} scales or sizes are given for {} axes", axes.len());
            Ok(())
        };
        if let Some(scales) = inputs.get(2).filter(|fact| !is_empty(fact)) {
            if let Some(len) = list_len(scales)? {
                count(len)?;
            }
            let Some(scales) = &scales.value else {
                axes.iter().for_each(|&axis| targets[axis].0 = Dim::Unknown);
                return Ok(targets);
            };
            for (&axis, scale) in axes.iter().zip(scales.to_f32_vec()?) {
                ensure!(scale > 0.0 && scale.is_finite(), InvalidInput, "a scale of {scale}");
                // In single precision, as other runtimes do, so that 0.7 times 10 is 7. The cast saturates.
                let scaled = dims[axis].map(|length| (length as f32 * scale) as usize);
                let length = if scale == 1.0 { dims[axis].clone() } else { scaled };
                targets[axis] = (length, Some(f64::from(scale)));
            }
            return Ok(targets);
        }
        let Some(sizes) = inputs.get(3).filter(|fact| !is_empty(fact)) else {
            bail!(InvalidModel, "neither scales nor sizes are given")
        };
        let sizes = lengths_of(sizes)?.unwrap_or_else(|| vec![Dim::Unknown; axes.len()]);
        count(sizes.len())?;
        let ratio = |axis: usize, size: &Dim| Some((size.known()?, dims[axis].known().filter(|&n| n > 0)?));
        let ratios = axes.iter().zip(&sizes).map(|(&axis, size)| ratio(axis, size).map(|(s, n)| s as f64 / n as f64));
        let ratios: Vec<Option<f64>> = ratios.collect();
        let common = match self.aspect {
            AspectPolicy::Stretch => {
                for ((&axis, size), ratio) in axes.iter().zip(sizes).zip(ratios) {
                    targets[axis] = (size, ratio);
                }
                return Ok(targets);
            }
            AspectPolicy::NotLarger => f64::min,
            AspectPolicy::NotSmaller => f64::max,
        };
        let ratios: Option<Vec<f64>> = ratios.into_iter().collect();
        let scale = ratios.and_then(|ratios| ratios.into_iter().reduce(common));
        for &axis in &axes {
            let length = dims[axis].known().zip(scale).map(|(n, scale)| (scale * n as f64 + 0.5) as usize);
            targets[axis] = (length.map_or(Dim::Unknown, Dim::Known), scale);
        }
        Ok(targets)
    }

    fn region(&self, region: Option<&Tensor>, rank: usize) -> Result<Vec<(f32, f32)>> {
        let mut regions = vec![(0.0, 1.0); rank];
        if self.coordinates == Coordinates::CropAndResize {
            let axes = self.resized_axes(rank)?;
            let region = region.map(Tensor::to_f32_vec).transpose()?.unwrap_or_default();
            ensure!(
                region.len() == 2 * axes.len(),
                Shape,
                "a region of {} numbers for {} axes",
                region.len(),
                axes.len()
            );
            let (starts, ends) = region.split_at(axes.len());
            for (&axis, bounds) in axes.iter().zip(starts.iter().copied().zip(ends.iter().copied())) {
                regions[axis] = bounds;
            }
        }
        Ok(regions)
    }
}

/// `Resize` of opset 10 to the nearest element. Its specification leaves open which one that is; its test and ONNX
/// Runtime take the next where an axis shrinks and the last where it grows. A node of today rounds all axes alike, so
/// one shrinks and another grows.
fn nearest_of_opset_10(op: Resize) -> Reading {
    let one = || Operand::Constant(Tensor::scalar(1.0f32));
    let region = || Operand::Constant(Tensor::vector(Vec::<f32>::new()));
    let made = |node| Operand::Output { node, output: 0 };
    let rounded = |nearest| Arc::new(Resize { filter: Filter::Nearest(nearest), ..op.clone() });
    Reading::Nodes(vec![
        (Arc::new(Variadic(VariadicKind::Min)), vec![Operand::Input(1), one()]),
        (rounded(Nearest::Ceil), vec![Operand::Input(0), region(), made(0)]),
        (Arc::new(Variadic(VariadicKind::Max)), vec![Operand::Input(1), one()]),
        (rounded(Nearest::Floor), vec![made(1), region(), made(2)]),
    ])
}

impl Resize {
    /// How each axis is resized between these shapes; of the inputs x is not looked at.
    fn axes(&self, from: &Shape, to: &Shape, inputs: Inputs<'_, Tensor>) -> Result<Vec<taps::Axis>> {
        let fact = |index: usize| inputs.get(index).map(|tensor| Fact::constant(tensor.clone()));
        let facts = [None, fact(1), fact(2), fact(3)];
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let dims: Vec<Dim> = from.iter().map(|&n| Dim::Known(n)).collect();
        let targets = self.targets(&dims, Inputs::new(&facts))?;
        let regions = self.region(inputs.get(1), from.rank())?;
        let axis = |axis: usize| taps::Axis {
            from: from[axis],
            to: to[axis],
            scale: targets[axis].1.unwrap_or(1.0),
            region: regions[axis],
        };
        Ok((0..from.rank()).map(axis).collect())
    }

    /// Where along each axis of x the elements of the result lie, where all of them lie inside: of the nearest ones
    /// their indices. `inputs` are those of the node, x left out.
    pub(crate) fn places(&self, from: &Shape, to: &Shape, inputs: &[Option<&Tensor>]) -> Result<Option<Vec<Vec<f64>>>> {
        let axes = self.axes(from, to, Inputs::new(inputs))?;
        let place = |axis: &taps::Axis, i: usize| match self.filter {
            _ if axis.is_identity() => Some(i as f64),
            Filter::Nearest(nearest) => Some(nearest.of(self.coordinates.source(axis, i)?, axis.from) as f64),
            _ => self.coordinates.source(axis, i),
        };
        Ok(axes.iter().map(|axis| (0..axis.to).map(|i| place(axis, i)).collect()).collect())
    }
}

fn is_empty(fact: &Fact) -> bool {
    matches!(fact.dims(), Some([Dim::Known(0)]))
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let targets = self.targets(dims, inputs)?;
        for (dim, (target, _)) in dims.iter().zip(&targets) {
            let made = *dim == Dim::Known(0) && target.known().is_some_and(|n| n > 0);
            ensure!(!made, Shape, "an axis of length 0 is resized to {target}");
        }
        Ok(vec![Fact::new(x.dtype, targets.into_iter().map(|(length, _)| length).collect())])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        if shape.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), shape)?]);
        }
        let axes = self.axes(x.shape(), &shape, inputs)?;
        let axis = |axis: usize| axes[axis];
        if let Filter::Nearest(nearest) = self.filter {
            let map = |axis: &taps::Axis| -> Vec<usize> {
                let place = |i| self.coordinates.source(axis, i).map_or(FILL, |at| nearest.of(at, axis.from));
                (0..axis.to).map(|i| if axis.is_identity() { i } else { place(i) }).collect()
            };
            let maps: Vec<Vec<usize>> = (0..x.rank()).map(|a| map(&axis(a))).collect();
            let fill = Tensor::scalar(self.extrapolation_value).cast(x.dtype())?;
            return Ok(vec![mapped(x, &maps, &fill)?]);
        }
        let mut values = x.to_f64_vec()?;
        let mut lengths = x.shape().to_vec();
        for a in 0..x.rank() {
            let axis = axis(a);
            if axis.is_identity() {
                continue;
            }
            let taps = Taps::new(&axis, self.filter, self.coordinates, self.antialias, self.exclude_outside);
            let after = Shape::from(lengths.clone()).replaced(a..a + 1, &[axis.to]);
            budget.admit_bytes(after.checked_len()?.saturating_mul(8))?;
            let inner = lengths[a + 1..].iter().product();
            values = taps.apply(&values, axis.from, inner, f64::from(self.extrapolation_value));
            lengths[a] = axis.to;
        }
        // Of integers the fraction is dropped, as a cast drops it.
        Ok(vec![from_f64(x.dtype(), shape, values)?])
    }

    fn attrs(&self) -> Attrs {
        let attrs = match self.filter {
            Filter::Nearest(nearest) => Attrs::new().str("mode", "nearest").str("nearest_mode", nearest.as_str()),
            Filter::Linear => Attrs::new().str("mode", "linear"),
            Filter::Cubic { a } => Attrs::new().str("mode", "cubic").float("cubic_coeff_a", a),
        };
        attrs
            .str("coordinate_transformation_mode", self.coordinates.as_str())
            .flag("antialias", self.antialias)
            .flag("exclude_outside", self.exclude_outside)
            .float("extrapolation_value", self.extrapolation_value)
            .ints_opt("axes", self.axes.as_deref())
            .str("keep_aspect_ratio_policy", self.aspect.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use crate::ops::testing::{infer_one, run, run_node, symbol};
    use crate::tensor::DType;

    fn op(filter: Filter, coordinates: Coordinates) -> Resize {
        let (antialias, exclude_outside, extrapolation_value) = (false, false, 0.0);
        let (axes, aspect) = (None, AspectPolicy::Stretch);
        Resize { filter, coordinates, antialias, exclude_outside, extrapolation_value, axes, aspect }
    }

    fn resize(op: &Resize, x: &Tensor, scales: &[f32]) -> Result<Tensor> {
        Ok(run(op, &[Some(x), None, Some(&Tensor::vector(scales.to_vec()))])?.remove(0))
    }

    #[test]
    fn each_filter_has_its_values() {
        let x = Tensor::vector(vec![1.0f32, 2.0, 4.0]);
        let nearest = Filter::Nearest(Nearest::RoundPreferFloor);
        for (filter, coordinates, expected) in [
            (nearest, Coordinates::HalfPixel, [1.0f32, 1.0, 2.0, 2.0, 4.0, 4.0]),
            (Filter::Linear, Coordinates::HalfPixel, [1.0, 1.25, 1.75, 2.5, 3.5, 4.0]),
            (Filter::Linear, Coordinates::Asymmetric, [1.0, 1.5, 2.0, 3.0, 4.0, 4.0]),
            (Filter::Linear, Coordinates::AlignCorners, [1.0, 1.4, 1.8, 2.4, 3.2, 4.0]),
            (Filter::Cubic { a: -0.5 }, Coordinates::Asymmetric, [1.0, 1.375, 2.0, 3.0625, 4.0, 4.125]),
        ] {
            let y = resize(&op(filter, coordinates), &x, &[2.0]).unwrap().to_f32_vec().unwrap();
            assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{filter:?} {coordinates:?}: {y:?}");
        }
    }

    #[test]
    fn antialias_weighs_all_that_shrinks() {
        let x = Tensor::vector(vec![1.0f32, 2.0, 3.0, 4.0]);
        let linear = Resize { antialias: true, ..op(Filter::Linear, Coordinates::HalfPixel) };
        let y = resize(&linear, &x, &[0.5]).unwrap().to_f32_vec().unwrap();
        assert!((y[0] - 1.625).abs() < 1e-6 && (y[1] - 3.375).abs() < 1e-6, "{y:?}");
    }

    #[test]
    fn regions_and_sizes() {
        let x = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
        let crop = op(Filter::Nearest(Nearest::Floor), Coordinates::CropAndResize);
        let crop = Resize { extrapolation_value: 9.0, axes: Some(vec![1]), ..crop };
        let (region, sizes) = (Tensor::vector(vec![0.0f32, 2.0]), Tensor::vector(vec![3i64]));
        let y = run(&crop, &[Some(&x), Some(&region), None, Some(&sizes)]).unwrap().remove(0);
        assert_eq!(y, Tensor::new([2, 3], vec![1u8, 2, 9, 3, 4, 9]).unwrap());
        let keep = op(Filter::Nearest(Nearest::Floor), Coordinates::Asymmetric);
        for (aspect, expected) in [(AspectPolicy::NotLarger, [4, 4]), (AspectPolicy::NotSmaller, [6, 6])] {
            let keep = Resize { aspect, ..keep.clone() };
            let y = run(&keep, &[Some(&x), None, None, Some(&Tensor::vector(vec![4i64, 6]))]).unwrap().remove(0);
            assert_eq!(y.shape().to_vec(), expected);
        }
    }

    #[test]
    fn old_forms_are_read() {
        let x = Tensor::new([1, 1, 1, 2], vec![1.0f32, 2.0]).unwrap();
        let scales = vec![1.0f32, 1.0, 1.0, 2.0];
        let attrs = [("scales", Attr::Floats(scales.clone())), ("mode", Attr::Str("nearest".into()))];
        let y = run_node("Upsample", 7, &attrs, &[Some(&x)]).unwrap().remove(0);
        assert_eq!(y.as_slice::<f32>().unwrap(), [1.0, 1.0, 2.0, 2.0]);
        let y = run_node("Resize", 10, &[], &[Some(&x), Some(&Tensor::vector(scales))]).unwrap().remove(0);
        assert_eq!(y.as_slice::<f32>().unwrap(), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn the_nearest_of_opset_10_is_the_next_where_an_axis_shrinks() {
        let x = Tensor::new([1, 1, 2, 4], (1..=8).map(|v| v as f32).collect()).unwrap();
        for (scales, expected) in [
            (vec![1.0f32, 1.0, 0.6, 0.6], vec![1.0f32, 3.0]),
            (vec![1.0, 1.0, 1.5, 0.6], vec![1.0, 3.0, 1.0, 3.0, 5.0, 7.0]),
            (vec![1.0, 1.0, 0.6, 1.5], vec![1.0, 1.0, 2.0, 3.0, 3.0, 4.0]),
        ] {
            let y = run_node("Resize", 10, &[], &[Some(&x), Some(&Tensor::vector(scales))]).unwrap().remove(0);
            assert_eq!(y.as_slice::<f32>().unwrap(), expected);
        }
    }

    #[test]
    fn symbols_survive_and_hostile_scales_are_refused() {
        let op = op(Filter::Linear, Coordinates::HalfPixel);
        let x = Fact::new(DType::F32, vec![symbol("N"), Dim::Known(10)]);
        let infer = |scales: &[f32]| {
            let scales = Fact::constant(Tensor::vector(scales.to_vec()));
            infer_one(&op, &[&x, &Fact::constant(Tensor::vector(Vec::<f32>::new())), &scales])
        };
        assert_eq!(infer(&[1.0, 0.7]).unwrap().dims().unwrap(), [symbol("N"), Dim::Known(7)]);
        assert_eq!(infer(&[1.0, 1e30]).unwrap().dims().unwrap()[1], Dim::Known(usize::MAX));
        for bad in [vec![1.0, 0.0], vec![1.0, -1.0], vec![1.0, f32::NAN], vec![1.0, f32::INFINITY], vec![1.0]] {
            assert!(infer(&bad).is_err());
        }
        let empty = Tensor::new([0], Vec::<f32>::new()).unwrap();
        assert!(run(&op, &[Some(&empty), None, None, Some(&Tensor::vector(vec![2i64]))]).is_err());
        assert!(run(&op, &[Some(&empty), None, None, Some(&Tensor::vector(vec![-2i64]))]).is_err());
    }
}
