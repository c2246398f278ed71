//! Pooling over a sliding window: the maximum (and where it lies), the average, the p-norm.

use super::padding::{Padding, reach, read_positive, write_lengths};
use super::window::{PADDING, Window, WindowSpec};
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// What a pool takes from each window.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PoolKind {
    /// The largest element, NaN where there is one; a second output says where it lies.
    Max {
        /// Whether that place is counted with the first spatial axis running fastest.
        storage_order: bool,
    },
    /// The mean.
    Average {
        /// Whether padding counts as zeros or not at all.
        count_include_pad: bool,
    },
    /// The p-norm.
    Lp {
        /// The p, at least 1.
        p: i64,
    },
}

/// `MaxPool`, `AveragePool` or `LpPool` of x `[batch, channels, spatial..]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// What is taken from each window.
    pub kind: PoolKind,
    /// The window's lengths, one a spatial axis.
    pub kernel: Vec<usize>,
    /// Step of the window along each axis; empty means ones.
    pub strides: Vec<usize>,
    /// Distance between taps along each axis; empty means ones.
    pub dilations: Vec<usize>,
    /// How far the window reaches over the edges.
    pub padding: Padding,
    /// Whether a last window may reach over the end.
    pub ceil_mode: bool,
}

impl Pool {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let kind = match node.op_type() {
            "MaxPool" => PoolKind::Max { storage_order: node.flag_or("storage_order", false)? },
            "AveragePool" => return Ok(Pool::read_average(node)?.into()),
            _ => PoolKind::Lp { p: read_p(node)? },
        };
        Ok(Pool::read_window(node, kind)?.into())
    }

    pub(crate) fn read_average(node: &mut NodeReader) -> Result<Self> {
        let count_include_pad = node.flag_or("count_include_pad", false)?;
        Pool::read_window(node, PoolKind::Average { count_include_pad })
    }

    fn read_window(node: &mut NodeReader, kind: PoolKind) -> Result<Self> {
        let kernel = read_positive(node, "kernel_shape")?;
        ensure!(!kernel.is_empty(), InvalidModel, "attribute kernel_shape is missing");
        Ok(Pool {
            kind,
            kernel,
            strides: read_positive(node, "strides")?,
            dilations: read_positive(node, "dilations")?,
            padding: Padding::read(node)?,
            ceil_mode: node.flag_or("ceil_mode", false)?,
        })
    }

    fn spec(&self) -> WindowSpec<'_> {
        WindowSpec {
            kernel: &self.kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            padding: &self.padding,
            ceil_mode: self.ceil_mode,
        }
    }

    /// Padding as wide as the window would make places that see nothing of the input.
    fn check_padding(&self) -> Result<()> {
        let Padding::Explicit { begin, end } = &self.padding else { return Ok(()) };
        for (axis, &kernel) in self.kernel.iter().enumerate() {
            let span = reach(kernel, self.dilations.get(axis).copied().unwrap_or(1));
            for pads in [begin, end] {
                let pad = pads.get(axis).copied().unwrap_or(0);
                ensure!(i128::from(pad) < span, Shape, "a padding of {pad} is not less than the window of {span}");
                ensure!(pad >= 0, Shape, "a pool cannot crop, but a padding is {pad}");
            }
        }
        Ok(())
    }
}

/// The attribute `p`, at least 1.
pub(super) fn read_p(node: &mut NodeReader) -> Result<i64> {
    let p = node.int_or("p", 2)?;
    ensure!(p >= 1, InvalidModel, "p is {p}, but a norm needs at least 1");
    Ok(p)
}

/// Checks the dtype that a pool of this kind may read.
pub(super) fn check_dtype(max: bool, dtype: DType) -> Result<()> {
    let allowed = dtype.is_float() || max && matches!(dtype, DType::I8 | DType::U8);
    ensure!(allowed, InvalidModel, "a pool of {dtype} is not defined");
    Ok(())
}

/// The p-norm of elements.
pub(super) fn norm(p: i64, elements: impl Iterator<Item = f64>) -> f64 {
    match p {
        1 => elements.map(f64::abs).sum(),
        2 => elements.map(|v| v * v).sum::<f64>().sqrt(),
        _ => elements.map(|v| v.abs().powf(p as f64)).sum::<f64>().powf(1.0 / p as f64),
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max { .. } => "MaxPool",
            PoolKind::Average { .. } => "AveragePool",
            PoolKind::Lp { .. } => "LpPool",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let max = matches!(self.kind, PoolKind::Max { .. });
        check_dtype(max, x.dtype)?;
        self.check_padding()?;
        let shape = match x.dims() {
            Some(dims) => {
                ensure!(dims.len() >= 3, Shape, "x is {x}, but needs batch, channels and a spatial axis");
                let mut shape = dims[..2].to_vec();
                shape.extend(self.spec().infer(&dims[2..])?);
                shape
            }
            None => vec![Dim::Unknown; self.kernel.len() + 2],
        };
        let mut facts = vec![Fact::new(x.dtype, shape.clone())];
        if max {
            facts.push(Fact::new(DType::I64, shape));
        }
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let window = self.spec().over(&x.shape()[2..])?;
        let shape: Shape = x.shape()[..2].iter().copied().chain(window.output()).collect();
        let len = shape.checked_len()?;
        budget.admit_bytes(window.taps().saturating_mul(PLACES).saturating_mul(8))?;
        budget.spend(len.saturating_mul(window.taps()))?;
        let max = matches!(self.kind, PoolKind::Max { .. });
        let (mut out, mut indices) = (vec![0.0; len], vec![0i64; if max { len } else { 0 }]);
        if len > 0 {
            let values = x.to_f64_vec()?;
            for start in (0..window.places()).step_by(PLACES) {
                self.eval_places(&window, start, &values, &mut out, &mut indices);
            }
        }
        let mut results = vec![from_f64(x.dtype(), shape.clone(), out)?];
        if max {
            results.push(Tensor::new(shape, indices)?);
        }
        Ok(results)
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new().lengths("kernel_shape", &self.kernel).flag("ceil_mode", self.ceil_mode);
        attrs = match self.kind {
            PoolKind::Max { storage_order } => attrs.flag("storage_order", storage_order),
            PoolKind::Average { count_include_pad } => attrs.flag("count_include_pad", count_include_pad),
            PoolKind::Lp { p } => attrs.int("p", p),
        };
        attrs = write_lengths(attrs, "strides", &self.strides);
        attrs = write_lengths(attrs, "dilations", &self.dilations);
        self.padding.write(attrs)
    }
}

/// Places worked on at a time.
const PLACES: usize = 256;

impl Pool {
    /// Fills the places from `start` on, in every channel.
    fn eval_places(&self, window: &Window, start: usize, x: &[f64], out: &mut [f64], indices: &mut [i64]) {
        let (places, size) = (window.places(), window.inputs());
        let range = start..(start + PLACES).min(places);
        let width = range.len();
        let table = window.table(range.clone());
        for (column, place) in range.enumerate() {
            let taps: Vec<usize> =
                table[column..].iter().step_by(width).copied().filter(|&index| index != PADDING).collect();
            let divisor = match self.kind {
                PoolKind::Average { count_include_pad: true } => window.taps_within_padding(place),
                _ => taps.len(),
            };
            for (channel, plane) in x.chunks_exact(size.max(1)).enumerate() {
                let at = channel * places + place;
                match self.kind {
                    PoolKind::Max { storage_order } => {
                        let best = largest(plane, &taps);
                        out[at] = best.map_or(f64::NEG_INFINITY, |index| plane[index]);
                        let within = best.map_or(0, |i| if storage_order { window.column_major(i) } else { i });
                        indices[at] = (channel * size + within) as i64;
                    }
                    PoolKind::Average { .. } => {
                        let sum: f64 = taps.iter().map(|&index| plane[index]).sum();
                        out[at] = sum / divisor as f64;
                    }
                    PoolKind::Lp { p } => out[at] = norm(p, taps.iter().map(|&index| plane[index])),
                }
            }
        }
    }
}

/// The first of the largest elements, or the first NaN.
fn largest(plane: &[f64], taps: &[usize]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for &index in taps {
        if best.is_none_or(|b| plane[index] > plane[b] || plane[index].is_nan() && !plane[b].is_nan()) {
            best = Some(index);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Symbol;

    fn pool(kind: PoolKind) -> Pool {
        Pool {
            kind,
            kernel: vec![2, 2],
            strides: vec![],
            dilations: vec![],
            padding: Padding::none(),
            ceil_mode: false,
        }
    }

    const MAX: PoolKind = PoolKind::Max { storage_order: false };

    fn run(op: &Pool, x: &Tensor) -> Result<Vec<Tensor>> {
        let facts = op.infer(Inputs::new(&[Some(&Fact::concrete(x.dtype(), x.shape()))]))?;
        let y = op.eval(Inputs::new(&[Some(x)]), &Budget::generous())?;
        assert!(facts.iter().zip(&y).all(|(f, t)| f.concrete_shape().as_ref() == Some(t.shape())));
        Ok(y)
    }

    fn square() -> Tensor {
        Tensor::new([1, 1, 3, 3], (1..=9).map(|v| v as f32).collect()).unwrap()
    }

    #[test]
    fn indices_count_in_the_stated_order() {
        let rows = run(&pool(MAX), &square()).unwrap();
        assert_eq!(rows[0].as_slice::<f32>().unwrap(), [5.0, 6.0, 8.0, 9.0]);
        assert_eq!(rows[1].as_slice::<i64>().unwrap(), [4, 5, 7, 8]);
        let columns = run(&pool(PoolKind::Max { storage_order: true }), &square()).unwrap();
        assert_eq!(columns[1].as_slice::<i64>().unwrap(), [4, 7, 5, 8]);
    }

    #[test]
    fn padding_never_wins_a_maximum() {
        let x = Tensor::new([1, 1, 1, 1], vec![-3i8]).unwrap();
        let op = Pool { padding: Padding::symmetric(&[1, 1]), ..pool(MAX) };
        assert_eq!(run(&op, &x).unwrap()[0].as_slice::<i8>().unwrap(), [-3; 4]);
    }

    #[test]
    fn padding_counts_in_an_average_only_when_asked() {
        let padding = Padding::Explicit { begin: vec![1, 1], end: vec![0, 0] };
        let mean = |count_include_pad, ceil_mode| {
            let op = Pool {
                padding: padding.clone(),
                ceil_mode,
                strides: vec![3, 3],
                ..pool(PoolKind::Average { count_include_pad })
            };
            run(&op, &square()).unwrap()[0].to_f32_vec().unwrap()
        };
        assert_eq!(mean(false, false), [1.0]);
        assert_eq!(mean(true, false), [0.25]);
        // The windows that ceil_mode adds reach over the end: what lies behind the padding never counts.
        assert_eq!(mean(true, true), [0.25, 1.5, 3.5, 9.0]);
    }

    #[test]
    fn hostile_attributes_are_errors() {
        for op in [
            Pool { kernel: vec![4, 4], ..pool(MAX) },
            Pool { kernel: vec![2], ..pool(MAX) },
            Pool { kernel: vec![2, 0], ..pool(MAX) },
            Pool { strides: vec![0, 1], ..pool(MAX) },
            Pool { padding: Padding::symmetric(&[2, 2]), ..pool(MAX) },
            Pool { padding: Padding::symmetric(&[-1, 0]), ..pool(MAX) },
            Pool { dilations: vec![usize::MAX, 1], ..pool(MAX) },
        ] {
            assert!(run(&op, &square()).is_err(), "{op:?}");
        }
        let wide = 1usize << 40;
        let op = Pool { kernel: vec![wide, 1], padding: Padding::symmetric(&[wide as i64 - 1, 0]), ..pool(MAX) };
        let error = op.eval(Inputs::new(&[Some(&square())]), &Budget::new(1 << 20, 1)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Limit);
        assert!(
            run(&pool(PoolKind::Average { count_include_pad: false }), &square().cast(DType::I8).unwrap()).is_err()
        );
    }

    #[test]
    fn a_batch_symbol_survives() {
        let n = Dim::Symbol(Symbol::new("N"));
        let x = Fact::new(DType::F32, vec![n.clone(), Dim::Known(3), Dim::Known(4), Dim::Known(4)]);
        let y = pool(MAX).infer(Inputs::new(&[Some(&x)])).unwrap();
        assert_eq!(y[0].dims().unwrap(), [n, Dim::Known(3), Dim::Known(3), Dim::Known(3)]);
    }
}
