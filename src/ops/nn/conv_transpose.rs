//! Transposed convolution: each element of the input adds a scaled kernel to the output.

use super::conv::{add_bias, read_group};
use super::padding::{Padding, entry, reach, read_positive, write_lengths};
use super::window::{Axis, PADDING, Window};
use crate::error::{Result, bail, ensure, err};
use crate::ops::matrix::product::{multiply_add, transpose};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// Transposed convolution: x `[batch, channels, spatial..]`, w `[channels, out / group, kernel..]`, optional bias
/// `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// Into how many independent groups the channels fall; at least 1.
    pub group: usize,
    /// The kernel's lengths, where the model states them; they must be those of `w`.
    pub kernel: Option<Vec<usize>>,
    /// Distance in the output between kernels of neighboring elements; empty means ones.
    pub strides: Vec<usize>,
    /// Distance between taps along each axis; empty means ones.
    pub dilations: Vec<usize>,
    /// What is cut from the edges of the output. `SAME` yields `input * stride` elements.
    pub padding: Padding,
    /// Elements added behind each axis; empty means none.
    pub output_padding: Vec<usize>,
    /// The spatial lengths of the output, where the model states them; padding follows from them.
    pub output_shape: Option<Vec<usize>>,
}

impl Default for ConvTranspose {
    /// One group, steps of one, no padding.
    fn default() -> Self {
        ConvTranspose {
            group: 1,
            kernel: None,
            strides: Vec::new(),
            dilations: Vec::new(),
            padding: Padding::none(),
            output_padding: Vec::new(),
            output_shape: None,
        }
    }
}

impl ConvTranspose {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let kernel = node.lengths("kernel_shape")?;
        ensure!(!kernel.iter().flatten().any(|&k| k == 0), InvalidModel, "kernel_shape has a zero: {kernel:?}");
        Ok(ConvTranspose {
            group: read_group(node)?,
            kernel,
            strides: read_positive(node, "strides")?,
            dilations: read_positive(node, "dilations")?,
            padding: Padding::read(node)?,
            output_padding: node.lengths("output_padding")?.unwrap_or_default(),
            output_shape: node.lengths("output_shape")?.filter(|list| !list.is_empty()),
        }
        .into())
    }

    /// The spatial lengths of the output over those of the input and the kernel, and what is cut from the front of each axis
    /// (added, where it is negative).
    ///
    /// # Errors
    /// `Shape` where attributes contradict each other or the lengths, `Limit` where a length overflows.
    pub fn output(&self, input: &[usize], kernel: &[usize]) -> Result<(Vec<usize>, Vec<i64>)> {
        let rank = input.len();
        ensure!(kernel.len() == rank, Shape, "a kernel of {} axes on {rank} spatial axes", kernel.len());
        let axes =
            (0..rank).map(|axis| self.axis(axis, rank, input[axis], kernel[axis])).collect::<Result<Vec<Axis>>>()?;
        Ok(axes.iter().map(|axis| (axis.input, axis.begin)).unzip())
    }

    /// One spatial axis over `input` elements.
    fn axis(&self, axis: usize, rank: usize, input: usize, kernel: usize) -> Result<Axis> {
        let stride = entry(&self.strides, axis, rank, "strides")?;
        let dilation = entry(&self.dilations, axis, rank, "dilations")?;
        ensure!(kernel > 0, Shape, "the kernel has a zero");
        let extra = self.extra(axis, rank)?;
        let full = reach(kernel, dilation)
            .saturating_add((input as i128 - 1) * stride as i128)
            .saturating_add(extra as i128)
            .max(0);
        let upper = self.padding == Padding::SameUpper;
        // What lies before the first element of an output of this length.
        let before = |output: i128| {
            let total = full.saturating_sub(output).max(0);
            if upper { total / 2 } else { total - total / 2 }
        };
        let (output, begin) = match (self.stated(axis, rank)?, &self.padding) {
            (Some(output), _) => (output as i128, before(output as i128)),
            (None, Padding::SameUpper | Padding::SameLower) => {
                let output = input as i128 * stride as i128;
                (output, before(output))
            }
            (None, padding) => {
                let (begin, end) = padding.axis(axis, rank, input, kernel, stride, dilation)?;
                let output = full - i128::from(begin) - i128::from(end);
                ensure!(output >= 0, Shape, "padding {begin} and {end} cut more than the {full} elements there are");
                (output, i128::from(begin))
            }
        };
        let too_long = || err!(Limit, "a transposed convolution of {output} elements is too long");
        let begin = i64::try_from(begin).map_err(|_| too_long())?;
        let output = usize::try_from(output).map_err(|_| too_long())?;
        // The window slides over the output: its places are the elements of the input.
        Ok(Axis { input: output, output: input, kernel, stride, dilation, begin, end: 0 })
    }

    fn extra(&self, axis: usize, rank: usize) -> Result<usize> {
        match self.output_padding.len() {
            0 => Ok(0),
            n if n == rank => Ok(self.output_padding[axis]),
            n => bail!(Shape, "output_padding for {n} axes on {rank} spatial axes"),
        }
    }

    /// The stated output length; batch and channels may stand before the spatial ones.
    fn stated(&self, axis: usize, rank: usize) -> Result<Option<usize>> {
        match &self.output_shape {
            None => Ok(None),
            Some(list) if list.len() == rank => Ok(Some(list[axis])),
            Some(list) if list.len() == rank + 2 => Ok(Some(list[axis + 2])),
            Some(list) => bail!(Shape, "output_shape {list:?} on {rank} spatial axes"),
        }
    }

    /// Whether an axis keeps its length whatever that is.
    fn keeps(&self, axis: usize, rank: usize, kernel: usize) -> Result<bool> {
        let stride = entry(&self.strides, axis, rank, "strides")?;
        let dilation = entry(&self.dilations, axis, rank, "dilations")?;
        let grown = reach(kernel, dilation) - 1 + self.extra(axis, rank)? as i128;
        Ok(stride == 1
            && match &self.padding {
                Padding::SameUpper | Padding::SameLower => true,
                Padding::Valid => grown == 0,
                Padding::Explicit { begin, end } => {
                    let pad = |list: &[i64]| i128::from(list.get(axis).copied().unwrap_or(0));
                    pad(begin) + pad(end) == grown
                }
            })
    }

    fn infer_shape(&self, x: &Fact, w: &Fact, bias: Option<&Fact>) -> Result<Option<Vec<Dim>>> {
        ensure!(self.group > 0, InvalidModel, "group is 0");
        let Some(rank) = x.rank().or(w.rank()) else { return Ok(None) };
        ensure!(rank >= 3, Shape, "x has rank {rank}, but needs batch, channels and a spatial axis");
        for (name, fact) in [("x", x), ("w", w)] {
            ensure!(fact.rank().is_none_or(|r| r == rank), Shape, "{name} is {fact}, but rank {rank} is needed");
        }
        let mut out = Dim::Unknown;
        if let Some(w) = w.dims() {
            let channels =
                x.dims().map_or(Dim::Unknown, |x| x[1].clone()).unify(&w[0]).map_err(|e| e.at("channels"))?;
            if let Some(channels) = channels.known() {
                let divides = channels % self.group == 0;
                ensure!(divides, Shape, "{channels} channels do not divide into {} groups", self.group);
            }
            out = w[1].times(&Dim::Known(self.group));
        }
        out = match bias.and_then(Fact::dims) {
            Some([length]) => out.unify(length)?,
            Some(_) => bail!(Shape, "the bias is not one number an output channel"),
            None => out,
        };
        let of_w: Option<Vec<usize>> = w.dims().and_then(|d| d[2..].iter().map(Dim::known).collect());
        if let (Some(stated), Some(actual)) = (&self.kernel, &of_w) {
            ensure!(stated == actual, Shape, "kernel_shape is {stated:?}, but w has a kernel of {actual:?}");
        }
        let mut shape = vec![x.dims().map_or(Dim::Unknown, |d| d[0].clone()), out];
        let spatial = rank - 2;
        let kernel = of_w.or_else(|| self.kernel.clone()).filter(|k| k.len() == spatial);
        for axis in 0..spatial {
            let input = x.dims().map_or(Dim::Unknown, |d| d[axis + 2].clone());
            shape.push(match (self.stated(axis, spatial)?, &kernel, input) {
                (Some(length), ..) => Dim::Known(length),
                (None, Some(kernel), Dim::Known(n)) => Dim::Known(self.axis(axis, spatial, n, kernel[axis])?.input),
                (None, Some(kernel), input) if self.keeps(axis, spatial, kernel[axis])? => input,
                _ => Dim::Unknown,
            });
        }
        Ok(Some(shape))
    }
}

impl Op for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, _output: &Shape) -> Option<usize> {
        super::conv::filter_len(inputs.get(1)?)?.checked_mul(inputs.get(0)?.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        for fact in [Some(x), Some(w), inputs.get(2)].into_iter().flatten() {
            let fits = fact.dtype.is_float() && fact.dtype == x.dtype;
            ensure!(fits, Shape, "ConvTranspose of {} with {}", x.dtype, fact.dtype);
        }
        let shape = self.infer_shape(x, w, inputs.get(2))?;
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        let (spatial, kernel) = (&x.shape()[2..], &w.shape()[2..]);
        let axes = (0..spatial.len())
            .map(|axis| self.axis(axis, spatial.len(), spatial[axis], kernel[axis]))
            .collect::<Result<Vec<Axis>>>()?;
        let window = Window { axes };
        let (batch, channels) = (x.shape()[0], x.shape()[1] / self.group);
        let out_channels = w.shape()[1];
        let mut shape = vec![batch, out_channels.saturating_mul(self.group)];
        shape.extend(window.axes.iter().map(|a| a.input));
        let shape = Shape::from(shape);
        let mut out = vec![0.0; shape.checked_len()?];
        let rows = out_channels.saturating_mul(window.taps());
        if !out.is_empty() && !x.is_empty() && rows > 0 {
            let (places, size) = (window.places(), window.inputs());
            budget.admit_bytes(rows.saturating_add(window.taps()).saturating_mul(places).saturating_mul(8))?;
            let table = window.table(0..places);
            let (values, weights) = (x.to_f64_vec()?, w.to_f64_vec()?);
            let mut columns = vec![0.0; rows * places];
            for image in 0..batch * self.group {
                let group = image % self.group;
                let kernel = transpose(channels, rows, &weights[group * channels * rows..][..channels * rows]);
                columns.fill(0.0);
                let planes = &values[image * channels * places..][..channels * places];
                multiply_add(rows, channels, places, &kernel, planes, &mut columns);
                let planes = out[image * out_channels * size..][..out_channels * size].chunks_exact_mut(size);
                for (plane, column) in planes.zip(columns.chunks_exact(table.len())) {
                    for (&index, value) in table.iter().zip(column) {
                        if index != PADDING {
                            plane[index] += value;
                        }
                    }
                }
            }
        }
        if let Some(bias) = inputs.get(2) {
            add_bias(&mut out, &shape, &bias.to_f64_vec()?);
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new().int("group", self.group as i64);
        if let Some(kernel) = &self.kernel {
            attrs = attrs.lengths("kernel_shape", kernel);
        }
        if let Some(shape) = &self.output_shape {
            attrs = attrs.lengths("output_shape", shape);
        }
        attrs = write_lengths(attrs, "strides", &self.strides);
        attrs = write_lengths(attrs, "dilations", &self.dilations);
        attrs = write_lengths(attrs, "output_padding", &self.output_padding);
        self.padding.write(attrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Symbol};

    fn run(op: &ConvTranspose, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let facts = [x, w].map(|t| Fact::concrete(t.dtype(), t.shape()));
        let inferred = op.infer(Inputs::new(&[Some(&facts[0]), Some(&facts[1])]))?.remove(0);
        let y = op.eval(Inputs::new(&[Some(x), Some(w)]), &Budget::generous())?.remove(0);
        assert_eq!(inferred.concrete_shape().as_ref(), Some(y.shape()));
        Ok(y)
    }

    fn line(values: &[f32]) -> Tensor {
        Tensor::new([1, 1, values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn kernels_are_laid_at_each_stride() {
        let (x, w) = (line(&[1.0, 2.0]), line(&[1.0, 10.0, 100.0]));
        let y = |op: ConvTranspose| run(&op, &x, &w).unwrap().to_f32_vec().unwrap();
        assert_eq!(y(ConvTranspose::default()), [1.0, 12.0, 120.0, 200.0]);
        let strided = ConvTranspose { strides: vec![2], ..Default::default() };
        assert_eq!(y(strided.clone()), [1.0, 10.0, 102.0, 20.0, 200.0]);
        assert_eq!(y(ConvTranspose { output_padding: vec![1], ..strided.clone() }).len(), 6);
        assert_eq!(y(ConvTranspose { padding: Padding::symmetric(&[1]), ..strided.clone() }), [10.0, 102.0, 20.0]);
        assert_eq!(y(ConvTranspose { padding: Padding::SameUpper, ..strided.clone() }), [1.0, 10.0, 102.0, 20.0]);
        assert_eq!(y(ConvTranspose { padding: Padding::SameLower, ..strided.clone() }), [10.0, 102.0, 20.0, 200.0]);
        let wide = ConvTranspose { output_shape: Some(vec![7]), ..strided };
        assert_eq!(y(wide), [1.0, 10.0, 102.0, 20.0, 200.0, 0.0, 0.0]);
    }

    #[test]
    fn hostile_attributes_are_errors() {
        let (x, w) = (line(&[1.0, 2.0]), line(&[1.0, 10.0, 100.0]));
        for op in [
            ConvTranspose { padding: Padding::symmetric(&[i64::MAX]), ..Default::default() },
            ConvTranspose { strides: vec![0], ..Default::default() },
            ConvTranspose { group: 2, ..Default::default() },
            ConvTranspose { group: 0, ..Default::default() },
            ConvTranspose { output_padding: vec![usize::MAX], ..Default::default() },
            ConvTranspose { strides: vec![usize::MAX], dilations: vec![usize::MAX], ..Default::default() },
        ] {
            assert!(run(&op, &x, &w).is_err(), "{op:?}");
        }
    }

    #[test]
    fn symbols_survive() {
        let (n, width) = (Dim::Symbol(Symbol::new("N")), Dim::Symbol(Symbol::new("W")));
        let x = Fact::new(DType::F32, vec![n.clone(), Dim::Known(4), width.clone()]);
        let w = Fact::concrete(DType::F32, &[4, 3, 3]);
        let op = ConvTranspose { padding: Padding::symmetric(&[1]), group: 2, ..Default::default() };
        let y = op.infer(Inputs::new(&[Some(&x), Some(&w)])).unwrap();
        assert_eq!(y[0].dims().unwrap(), [n, Dim::Known(6), width]);
    }
}
