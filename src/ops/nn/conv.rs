//! Convolution over any number of spatial axes, with groups.

use super::padding::{Padding, read_positive, write_lengths};
use super::window::{PADDING, WindowSpec};
use crate::error::{Result, ensure};
use crate::ops::matrix::product::multiply_add;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Shape, Tensor};

/// Convolution: x `[batch, channels, spatial..]`, w `[out, channels / group, kernel..]`, optional bias `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Into how many independent groups the channels fall; at least 1.
    pub group: usize,
    /// The kernel's lengths, where the model states them; they must be those of `w`.
    pub kernel: Option<Vec<usize>>,
    /// Step of the window along each axis; empty means ones.
    pub strides: Vec<usize>,
    /// Distance between taps along each axis; empty means ones.
    pub dilations: Vec<usize>,
    /// How far the window reaches over the edges.
    pub padding: Padding,
}

impl Default for Conv {
    /// One group, steps of one, no padding.
    fn default() -> Self {
        Conv { group: 1, kernel: None, strides: Vec::new(), dilations: Vec::new(), padding: Padding::none() }
    }
}

impl Conv {
    pub(crate) fn read_attrs(node: &mut NodeReader) -> Result<Self> {
        let kernel = node.lengths("kernel_shape")?;
        ensure!(!kernel.iter().flatten().any(|&k| k == 0), InvalidModel, "kernel_shape has a zero: {kernel:?}");
        Ok(Conv {
            group: read_group(node)?,
            kernel,
            strides: read_positive(node, "strides")?,
            dilations: read_positive(node, "dilations")?,
            padding: Padding::read(node)?,
        })
    }

    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Conv::read_attrs(node)?.into())
    }

    /// The shape of the output for the facts of x, w and, where there is one, the bias.
    pub(crate) fn infer_shape(&self, x: &Fact, w: &Fact, bias: Option<&Fact>) -> Result<Option<Vec<Dim>>> {
        ensure!(self.group > 0, InvalidModel, "group is 0");
        let Some(rank) = x.rank().or(w.rank()) else { return Ok(None) };
        ensure!(rank >= 3, Shape, "x has rank {rank}, but needs batch, channels and a spatial axis");
        for (name, fact) in [("x", x), ("w", w)] {
            ensure!(fact.rank().is_none_or(|r| r == rank), Shape, "{name} is {fact}, but rank {rank} is needed");
        }
        let out = match w.dims() {
            Some(dims) => {
                let (out, per_group) = (&dims[0], &dims[1]);
                if let (Some(x), Some(c)) = (x.dims(), per_group.known())
                    && let Some(channels) = x[1].known()
                {
                    let expected = c.checked_mul(self.group);
                    ensure!(
                        expected == Some(channels),
                        Shape,
                        "x has {channels} channels, but w takes {c} in each of {} groups",
                        self.group
                    );
                }
                if let Some(m) = out.known() {
                    ensure!(m % self.group == 0, Shape, "{m} output channels do not divide into {} groups", self.group);
                }
                out.clone()
            }
            None => Dim::Unknown,
        };
        let out = match bias.and_then(Fact::dims) {
            Some([length]) => out.unify(length)?,
            Some(_) => crate::error::bail!(Shape, "the bias is not one number an output channel"),
            None => out,
        };
        let mut shape = vec![x.dims().map_or(Dim::Unknown, |d| d[0].clone()), out];
        match (x.dims(), self.kernel_of(w)?) {
            (Some(dims), Some(kernel)) => shape.extend(self.spec(&kernel).infer(&dims[2..])?),
            _ => shape.resize(rank, Dim::Unknown),
        }
        Ok(Some(shape))
    }

    /// The kernel's lengths from the attribute or from w.
    fn kernel_of(&self, w: &Fact) -> Result<Option<Vec<usize>>> {
        let of_w: Option<Vec<usize>> = w.dims().and_then(|d| d[2..].iter().map(Dim::known).collect());
        match (&self.kernel, of_w) {
            (Some(stated), Some(actual)) => {
                ensure!(*stated == actual, Shape, "kernel_shape is {stated:?}, but w has a kernel of {actual:?}");
                Ok(Some(actual))
            }
            (stated, actual) => Ok(stated.clone().or(actual)),
        }
    }

    pub(crate) fn spec<'a>(&'a self, kernel: &'a [usize]) -> WindowSpec<'a> {
        WindowSpec {
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            padding: &self.padding,
            ceil_mode: false,
        }
    }

    /// The sums for x and w given as `f64` (zero points taken off), without bias: the shape and the elements.
    pub(crate) fn accumulate(
        &self,
        x: &[f64],
        x_shape: &[usize],
        w: &[f64],
        w_shape: &[usize],
        budget: &Budget,
    ) -> Result<(Shape, Vec<f64>)> {
        let window = self.spec(&w_shape[2..]).over(&x_shape[2..])?;
        let (batch, out_channels, channels) = (x_shape[0], w_shape[0], w_shape[1]);
        let shape: Shape = [batch, out_channels].into_iter().chain(window.output()).collect();
        budget.admit_bytes(shape.checked_len()?.saturating_mul(8))?;
        let mut out = vec![0.0; shape.elements()];
        let depth = window.taps().saturating_mul(channels);
        if out.is_empty() || depth == 0 {
            return Ok((shape, out));
        }
        let (places, inputs, group_out) = (window.places(), window.inputs(), out_channels / self.group);
        for start in (0..places).step_by(PLACES) {
            let range = start..(start + PLACES).min(places);
            let table = window.table(range.clone());
            let width = range.len();
            let mut columns = vec![0.0; depth * width];
            let mut sums = vec![0.0; group_out * width];
            for image in 0..batch * self.group {
                gather(&x[image * channels * inputs..], inputs, &table, &mut columns);
                sums.fill(0.0);
                let weights = &w[image % self.group * group_out * depth..][..group_out * depth];
                multiply_add(group_out, depth, width, weights, &columns, &mut sums);
                for (channel, row) in sums.chunks_exact(width).enumerate() {
                    let at = (image * group_out + channel) * places + start;
                    out[at..at + width].copy_from_slice(row);
                }
            }
        }
        Ok((shape, out))
    }
}

/// Places worked on at a time, so that what a window reads there stays in cache.
const PLACES: usize = 256;

/// What each tap reads at each place, channel by channel: `[channels * taps, places]`.
fn gather(x: &[f64], inputs: usize, table: &[usize], columns: &mut [f64]) {
    for (channel, block) in columns.chunks_exact_mut(table.len()).enumerate() {
        let plane = &x[channel * inputs..(channel + 1) * inputs];
        // Indices, not iterators, for builds without optimization.
        let mut at = 0;
        while at < table.len() {
            let index = table[at];
            block[at] = if index == PADDING { 0.0 } else { plane[index] };
            at += 1;
        }
    }
}

/// The attribute `group`, at least 1.
pub(super) fn read_group(node: &mut NodeReader) -> Result<usize> {
    let group = node.int_or("group", 1)?;
    match usize::try_from(group) {
        Ok(group) if group > 0 => Ok(group),
        _ => crate::error::bail!(InvalidModel, "group is {group}, but must be at least 1"),
    }
}

/// Adds a bias to each channel of `[batch, channels, ..]`.
pub(crate) fn add_bias(values: &mut [f64], shape: &[usize], bias: &[f64]) {
    let plane = shape[2..].iter().product::<usize>();
    if plane == 0 || bias.is_empty() {
        return;
    }
    for (index, row) in values.chunks_exact_mut(plane).enumerate() {
        let offset = bias[index % bias.len()];
        row.iter_mut().for_each(|v| *v += offset);
    }
}

/// Elements of one filter, of weights that have the filters, or what stands for them, on their first axis.
pub(super) fn filter_len(weights: &Shape) -> Option<usize> {
    weights.elements().checked_div(*weights.first()?)
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        filter_len(inputs.get(1)?)?.checked_mul(output.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        for fact in [Some(x), Some(w), inputs.get(2)].into_iter().flatten() {
            ensure!(fact.dtype.is_float() && fact.dtype == x.dtype, Shape, "Conv of {} with {}", x.dtype, fact.dtype);
        }
        let shape = self.infer_shape(x, w, inputs.get(2))?;
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, w) = (inputs.require(0)?, inputs.require(1)?);
        let (shape, mut out) = self.accumulate(&x.to_f64_vec()?, x.shape(), &w.to_f64_vec()?, w.shape(), budget)?;
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
        attrs = write_lengths(attrs, "strides", &self.strides);
        attrs = write_lengths(attrs, "dilations", &self.dilations);
        self.padding.write(attrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Symbol};

    fn ramp(shape: &[usize]) -> Tensor {
        Tensor::new(shape, (0..shape.iter().product::<usize>()).map(|v| v as f32).collect()).unwrap()
    }

    fn run(op: &Conv, tensors: &[&Tensor]) -> Result<Tensor> {
        let facts: Vec<Fact> = tensors.iter().map(|t| Fact::concrete(t.dtype(), t.shape())).collect();
        let inferred = op.infer(Inputs::new(&facts.iter().map(Some).collect::<Vec<_>>()))?.remove(0);
        let tensors: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
        let y = op.eval(Inputs::new(&tensors), &Budget::generous())?.remove(0);
        assert_eq!(inferred.concrete_shape().as_ref(), Some(y.shape()));
        Ok(y)
    }

    #[test]
    fn groups_see_their_own_channels() {
        let x = Tensor::new([1, 2, 3], vec![1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0]).unwrap();
        let w = Tensor::new([2, 1, 2], vec![1.0f32, 1.0, 1.0, -1.0]).unwrap();
        let bias = Tensor::vector(vec![0.5f32, 0.0]);
        let y = run(&Conv { group: 2, ..Conv::default() }, &[&x, &w, &bias]).unwrap();
        assert_eq!(y.as_slice::<f32>().unwrap(), [3.5, 5.5, -10.0, -10.0]);
    }

    #[test]
    fn stride_dilation_and_uneven_padding() {
        let padding = Padding::Explicit { begin: vec![1], end: vec![2] };
        let op = Conv { strides: vec![2], dilations: vec![2], padding, ..Conv::default() };
        let w = Tensor::new([1, 1, 2], vec![1.0f32, 10.0]).unwrap();
        // Padded: 0 0 1 2 3 4 0 0; pairs two apart, from every second place.
        let y = run(&op, &[&ramp(&[1, 1, 5]), &w]).unwrap();
        assert_eq!(y.as_slice::<f32>().unwrap(), [10.0, 31.0, 3.0]);
    }

    #[test]
    fn more_places_than_a_block_holds() {
        let (x, w) = (ramp(&[1, 1, 2 * PLACES + 5]), Tensor::new([1, 1, 2], vec![-1.0f32, 1.0]).unwrap());
        let y = run(&Conv::default(), &[&x, &w]).unwrap();
        assert!(y.as_slice::<f32>().unwrap().iter().all(|&v| v == 1.0));
    }

    #[test]
    fn nothing_in_gives_the_bias_or_nothing() {
        let bias = Tensor::vector(vec![7.0f32]);
        let empty = run(&Conv::default(), &[&ramp(&[0, 1, 4]), &ramp(&[1, 1, 2]), &bias]).unwrap();
        assert_eq!(empty.shape()[..], [0, 1, 3]);
        let no_channels = run(&Conv::default(), &[&ramp(&[1, 0, 4]), &ramp(&[1, 0, 2]), &bias]).unwrap();
        assert_eq!(no_channels.as_slice::<f32>().unwrap(), [7.0; 3]);
    }

    #[test]
    fn misfits_are_errors() {
        let (x, w) = (ramp(&[1, 4, 5, 5]), ramp(&[4, 4, 3, 3]));
        let ok = Conv::default();
        assert!(run(&ok, &[&x, &w]).is_ok());
        for op in [
            Conv { group: 0, ..ok.clone() },
            Conv { group: 3, ..ok.clone() },
            Conv { group: usize::MAX, ..ok.clone() },
            Conv { kernel: Some(vec![3, 2]), ..ok.clone() },
            Conv { strides: vec![1], ..ok.clone() },
            Conv { strides: vec![0, 1], ..ok.clone() },
            Conv { dilations: vec![3, 1], ..ok.clone() },
            Conv { padding: Padding::symmetric(&[i64::MAX, 0]), ..ok.clone() },
            Conv { padding: Padding::symmetric(&[i64::MIN, 0]), ..ok.clone() },
        ] {
            assert!(run(&op, &[&x, &w]).is_err(), "{op:?}");
        }
        for (x, w) in [(ramp(&[1, 3, 5, 5]), w.clone()), (ramp(&[4, 5, 5]), w.clone()), (x, ramp(&[4, 4]))] {
            assert!(run(&ok, &[&x, &w]).is_err());
        }
    }

    #[test]
    fn batch_and_kept_lengths_stay_symbols() {
        let (n, width) = (Dim::Symbol(Symbol::new("N")), Dim::Symbol(Symbol::new("W")));
        let x = Fact::new(DType::F32, vec![n.clone(), Dim::Known(3), width.clone()]);
        let w = Fact::concrete(DType::F32, &[8, 3, 3]);
        let infer = |padding: Padding| {
            let op = Conv { padding, ..Conv::default() };
            op.infer(Inputs::new(&[Some(&x), Some(&w)])).unwrap()[0].dims().unwrap().to_vec()
        };
        assert_eq!(infer(Padding::SameUpper), [n.clone(), Dim::Known(8), width]);
        assert_eq!(infer(Padding::Valid), [n, Dim::Known(8), Dim::Unknown]);
        let unknown = Conv::default().infer(Inputs::new(&[Some(&Fact::unranked(DType::F32)), Some(&w)])).unwrap();
        assert_eq!(unknown[0].rank(), Some(3));
    }
}
