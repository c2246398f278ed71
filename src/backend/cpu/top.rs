//! `TopK` of f32, and the triangles that `Trilu` leaves.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::Result;
use crate::kernels::arch::Isa;
use crate::kernels::reduce::{top_k, top_k_room};
use crate::ops::create::Trilu;
use crate::ops::reduce::TopK;
use crate::tensor::{DType, with_bits};

/// The `k` first of each line.
#[derive(Debug)]
pub(super) struct Top {
    largest: bool,
    k: usize,
    n: usize,
    inner: usize,
    room: usize,
}

impl Top {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(from), Some(x)) = (spec.op::<TopK>(), spec.shape(0), spec.input(0)) else {
            return Ok(None);
        };
        // The number that was asked for is the length of the outputs, which a constant alone tells at compile time.
        if x.dtype != DType::F32 || spec.constant(1).is_none() || !spec.is_static() {
            return Ok(None);
        }
        let axis = from.axis(op.axis)?;
        let outputs = [0, 1].map(|index| spec.output(index).is_some());
        let Some(to) = spec.output_shape(0).or(spec.output_shape(1)) else { return Ok(None) };
        let (k, n, inner) = (to[axis], from[axis], from[axis + 1..].iter().product());
        let fits = k > 0 && k <= n && u32::try_from(n).is_ok() && outputs == [true, true];
        Ok(fits.then(|| Top { largest: op.largest, k, n, inner, room: top_k_room(k, n) }))
    }
}

impl Kernel for Top {
    fn name(&self) -> String {
        format!("top {} of {}", self.k, self.n)
    }

    fn workspace(&self) -> usize {
        self.room.saturating_mul(8)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let keys = bytemuck::cast_slice_mut(&mut context.workspace[..self.workspace()]);
        top_k(self.largest, self.k, self.n, self.inner, io.input(0)?, keys, io.output(0)?, io.output(1)?);
        Ok(())
    }
}

/// The part of each matrix on one side of a diagonal.
#[derive(Debug)]
pub(super) struct Triangle {
    size: usize,
    upper: bool,
    diagonal: i64,
    rows: usize,
    columns: usize,
    all: usize,
}

impl Triangle {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (Some(op), Some(x), Some(shape)) = (spec.op::<Trilu>(), spec.input(0), spec.shape(0)) else {
            return Ok(None);
        };
        let diagonal = match (spec.input(1), spec.constant(1)) {
            (None, _) => 0,
            (_, Some(k)) => match k.to_i64_vec()?[..] {
                [k] => k,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let &[.., rows, columns] = &**shape else { return Ok(None) };
        if shape.elements() == 0 {
            return Ok(None);
        }
        let all = shape.elements() / columns;
        Ok(Some(Triangle { size: x.dtype.size(), upper: op.upper, diagonal, rows, columns, all }))
    }
}

impl Kernel for Triangle {
    fn name(&self) -> String {
        "triangle".to_owned()
    }

    fn division(&self) -> Division {
        Division::units(self.all, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let (share, columns) = (io.share(), self.columns);
        with_bits!(self.size, T => {
            let (x, y): (&[T], &mut [T]) = (io.input(0)?, io.output(0)?);
            let x = &x[share.start * columns..share.end * columns];
            for (at, (x, y)) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).enumerate() {
                let row = (share.start + at) % self.rows;
                // The first column that stays above the diagonal, or the first that goes below it.
                let first = (row as i64).saturating_add(self.diagonal).saturating_add(i64::from(!self.upper));
                let first = usize::try_from(first).unwrap_or(0).min(columns);
                y.copy_from_slice(x);
                if self.upper { y[..first].fill(0) } else { y[first..].fill(0) }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::tensor::{Fact, Tensor};
    use crate::{CompileOptions, Model};
    use std::sync::Arc;

    fn agrees(graph: Graph, x: Tensor) {
        let expected = graph.interpret(std::slice::from_ref(&x)).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        assert_eq!(model.plan(&[x.shape().clone()]).unwrap().fallbacks(), Vec::<String>::new());
        for (found, expected) in model.run([x]).unwrap().into_vec().iter().zip(&expected) {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn triangles_of_any_element() {
        for k in [-9, -1, 0, 2, 9] {
            for upper in [false, true] {
                for dtype in [DType::F32, DType::Bool, DType::I64] {
                    let mut graph = Graph::new("test");
                    let x = graph.input("x", Fact::concrete(dtype, &[2, 3, 5])).unwrap();
                    let k = graph.constant("k", Tensor::scalar(k as i64)).unwrap();
                    let y = graph.op("y", Trilu { upper }, &[x, k]).unwrap();
                    graph.output(y).unwrap();
                    agrees(graph, Tensor::new([2, 3, 5], vec![1i64; 30]).unwrap().cast(dtype).unwrap());
                }
            }
        }
    }

    #[test]
    fn the_greatest_and_the_least_along_any_axis() {
        for axis in [0, 1, -1] {
            for largest in [false, true] {
                let mut graph = Graph::new("test");
                let x = graph.input("x", Fact::concrete(DType::F32, &[3, 4, 5])).unwrap();
                let k = graph.constant("k", Tensor::vector(vec![2i64])).unwrap();
                let op = Arc::new(TopK { axis, largest, sorted: true });
                let names = [Some("values"), Some("places")];
                for y in graph.node("y", op, &[Some(x), Some(k)], &names).unwrap().into_iter().flatten() {
                    graph.output(y).unwrap();
                }
                let elements = (0..60).map(|i| ((i * 37) % 11) as f32).collect();
                agrees(graph, Tensor::new([3, 4, 5], elements).unwrap());
            }
        }
    }
}
