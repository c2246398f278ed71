//! `MatMul` in f32, alone or with its epilogue: the constant side packed once, the other packed as it comes.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, bail, ensure};
use crate::kernels::Matrix;
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::bf16_from_f32;
use crate::kernels::gemm::{
    self, FloatOutput, HALVES_ROWS, Layout, PackedB, PackedBf16, PackedHalves, PackedView, gemm, gemm_bf16_region,
    gemm_halves, gemm_region, halves_scratch_len,
};
use crate::ops::Op;
use crate::ops::elementwise::Cast;
use crate::ops::fused::{self, Chain, Epilogue};
use crate::ops::matrix::MatMul;
use crate::tensor::{DType, Shape, Tensor, broadcast_index, broadcast_shapes};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use std::sync::Arc;

/// The right-hand side.
#[derive(Debug)]
enum Right {
    /// One constant matrix for the whole batch.
    Packed(Arc<PackedB>),
    /// The same in bfloat16; the rows are rounded as they come.
    Rounded(Arc<PackedBf16>),
    /// The same in float16, which holds it exactly.
    Halves(Arc<PackedHalves>),
    /// A matrix for each product of the batch, at these multiples of `k * n`.
    Computed(Vec<usize>),
}

/// `batch` products of `[m, k]` by `[k, n]`.
#[derive(Debug)]
pub(super) struct Product {
    isa: Isa,
    m: usize,
    k: usize,
    n: usize,
    /// The left-hand matrix of each product, in multiples of `m * k`.
    left: Vec<usize>,
    right: Right,
    bias: Option<usize>,
    residual: Option<usize>,
    activation: gemm::Activation,
    /// What A is: f32, or bfloat16 where that is what is multiplied.
    from: DType,
    /// What is stored.
    to: DType,
}

/// The operator that yields what a step stores in half precision, or else the step's own.
pub(super) fn stored(op: &Arc<dyn Op>) -> &Arc<dyn Op> {
    match op.downcast_ref::<Chain>() {
        Some(chain) if chain.second.is::<Cast>() => &chain.first,
        _ => op,
    }
}

/// A product of f32, as far as its operands tell.
struct Parts<'a> {
    epilogue: Option<&'a Epilogue>,
    activation: gemm::Activation,
    geometry: Geometry,
    /// One B for the whole batch.
    shared: bool,
}

impl<'a> Parts<'a> {
    fn of(spec: &Spec<'a>) -> Option<Self> {
        let op = stored(&spec.instruction.op);
        let epilogue = op.downcast_ref::<Epilogue>();
        let float = |index: usize| spec.input(index).is_none_or(|slot| slot.dtype == DType::F32);
        let floats = (1..spec.instruction.inputs.len()).all(float);
        let from = matches!(spec.input(0)?.dtype, DType::F32 | DType::BF16);
        let to = matches!(spec.output(0)?.dtype, DType::F32 | DType::F16 | DType::BF16);
        if !(epilogue.map_or(op, |e| &e.op).is::<MatMul>() && floats && from && to && spec.is_static()) {
            return None;
        }
        let activation = activation(epilogue.and_then(|e| e.activation))?;
        let Geometry { m, k, n, left, right } = geometry(spec.shape(0)?, spec.shape(1)?, spec.output_shape(0)?)?;
        let shared = right.iter().all(|&r| r == 0);
        let in_order = left.iter().enumerate().all(|(i, &l)| i == l);
        let (m, left, right) = if shared && in_order { (m * left.len(), vec![0], vec![0]) } else { (m, left, right) };
        Some(Parts { epilogue, activation, geometry: Geometry { m, k, n, left, right }, shared })
    }

    /// Whether its factors are rounded to bfloat16.
    fn rounds(&self, spec: &Spec<'_>) -> bool {
        spec.constant(1).is_some() && self.shared && self.geometry.left.len() == 1 && spec.weights.allow_bfloat16()
    }
}

impl Product {
    /// Whether this step is a product that stores what it yields in half precision as fast as in f32: one whose tiles do not
    /// store their registers themselves.
    pub(super) fn stores_halves(spec: &Spec<'_>) -> bool {
        Parts::of(spec).is_some_and(|parts| parts.activation.bounds().is_none())
    }

    /// Whether this step is a product that rounds its input 0 to bfloat16.
    pub(super) fn rounds(spec: &Spec<'_>) -> bool {
        Parts::of(spec).is_some_and(|parts| parts.rounds(spec))
    }

    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let Some(parts) = Parts::of(spec) else { return Ok(None) };
        let rounds = parts.rounds(spec);
        let Parts { epilogue, activation, geometry: Geometry { m, k, n, left, right }, shared } = parts;
        let [Some(from), Some(to)] = [spec.input(0), spec.output(0)].map(|slot| slot.map(|slot| slot.dtype)) else {
            return Ok(None);
        };
        if from != DType::F32 && !rounds {
            return Ok(None);
        }
        let right = match spec.constant(1) {
            Some(weight) if rounds => {
                let pack = |w: &Tensor| laid_out(w, k, n).map(|(b, layout)| PackedBf16::pack(isa, b, k, n, layout));
                let packed = spec.weights.get_or_pack(weight, 0, pack)?;
                check((packed.k(), packed.n()) == (k, n))?;
                Right::Rounded(packed)
            }
            Some(weight)
                if shared
                    && to == DType::F32
                    && let Some(packed) = halves(spec, isa, weight, [left.len(), m, k, n])? =>
            {
                Right::Halves(packed)
            }
            Some(weight) if shared => {
                let pack = |w: &Tensor| laid_out(w, k, n).map(|(b, layout)| PackedB::pack(isa, b, k, n, layout));
                let packed = spec.weights.get_or_pack(weight, 0, pack)?;
                check((packed.k(), packed.n()) == (k, n))?;
                Right::Packed(packed)
            }
            _ => Right::Computed(right),
        };
        Ok(Some(Product {
            isa,
            m,
            k,
            n,
            left,
            right,
            bias: epilogue.and_then(Epilogue::bias_index),
            residual: epilogue.and_then(Epilogue::residual_index),
            activation,
            from,
            to,
        }))
    }
}

/// Bytes of an f32 matrix from which on no second cache holds it, so that half the bytes are worth their conversion.
const FAR: usize = 2 << 20;

/// A weight in float16, for few rows that wait for its bytes; nothing where float16 does not hold it.
fn halves(
    spec: &Spec<'_>,
    isa: Isa,
    weight: &Tensor,
    [batch, m, k, n]: [usize; 4],
) -> Result<Option<Arc<PackedHalves>>> {
    let far = k.saturating_mul(n).saturating_mul(4) > FAR;
    if batch != 1 || m > HALVES_ROWS || !far || matches!(isa, Isa::Portable(_)) {
        return Ok(None);
    }
    // Most matrices show at a few elements that they were not written in float16.
    let mut few = [0f32; 64];
    for (element, bytes) in few.iter_mut().zip(weight.sample().as_chunks::<4>().0) {
        *element = f32::from_le_bytes(*bytes);
    }
    if !PackedHalves::holds(&few) {
        return Ok(None);
    }
    let pack = |w: &Tensor| laid_out(w, k, n).map(|(b, layout)| PackedHalves::pack(isa, b, k, n, layout));
    let packed = spec.weights.get_or_pack(weight, 0, pack)?;
    check((packed.k(), packed.n()) == (k, n))?;
    Ok(packed.is_exact().then_some(packed))
}

/// The elements of a weight of `[k, n]` as they lie.
fn laid_out(weight: &Tensor, k: usize, n: usize) -> Result<(&[f32], Layout)> {
    match weight.transposed_of() {
        Some(turned) => Ok((turned.as_slice()?, Layout::Transposed { stride: k })),
        None => Ok((weight.as_slice()?, Layout::RowMajor { stride: n })),
    }
}

fn check(fits: bool) -> Result<()> {
    ensure!(fits, Malformed, "the packed weights are those of another product; compile the model again");
    Ok(())
}

#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    /// The matrix of each product, in multiples of `m * k` and `k * n`.
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
}

/// numpy's rule: vectors become matrices, leading axes broadcast.
pub(super) fn geometry(a: &Shape, b: &Shape, out: &Shape) -> Option<Geometry> {
    let (m, k) = match a.rank() {
        0 => return None,
        1 => (1, a[0]),
        r => (a[r - 2], a[r - 1]),
    };
    let n = match b.rank() {
        0 => return None,
        1 => 1,
        r => b[r - 1],
    };
    let lead = |s: &Shape| Shape::from(&s[..s.rank().saturating_sub(2)]);
    let (la, lb) = (lead(a), lead(b));
    let batch = broadcast_shapes(&[&la, &lb]).ok()?;
    if out.elements() != batch.elements() * m * n {
        return None;
    }
    let left = broadcast_index(&la, &batch).collect();
    let right = broadcast_index(&lb, &batch).collect();
    Some(Geometry { m, k, n, left, right })
}

/// The kernels' name of an activation; `None` where they have none.
pub(super) fn activation(activation: Option<fused::Activation>) -> Option<gemm::Activation> {
    use crate::ops::elementwise::UnaryKind as U;
    use gemm::Activation as A;
    Some(match activation {
        None => A::None,
        Some(fused::Activation::Clip { lo, hi }) => A::Clip { lo, hi },
        Some(fused::Activation::Unary(kind)) => match kind {
            U::Relu => A::Relu,
            U::LeakyRelu { alpha } => A::LeakyRelu { alpha },
            U::Sigmoid => A::Sigmoid,
            U::Tanh => A::Tanh,
            U::Swish { alpha: 1.0 } => A::Silu,
            U::HardSwish => A::HardSwish,
            U::HardSigmoid { alpha, beta } => A::HardSigmoid { alpha, beta },
            U::Gelu { tanh: false } => A::Gelu,
            U::Gelu { tanh: true } => A::GeluTanh,
            _ => return None,
        },
    })
}

impl Product {
    /// The rows or columns of the share.
    fn output<'a>(&self, io: &Io<'a>) -> Result<FloatOutput<'a>> {
        Ok(match self.to {
            DType::F16 => io.output_matrix::<f16>(0, self.n)?.into(),
            DType::BF16 => io.output_matrix::<bf16>(0, self.n)?.into(),
            _ => io.output_matrix::<f32>(0, self.n)?.into(),
        })
    }
}

impl Kernel for Product {
    fn name(&self) -> String {
        let side = match self.right {
            Right::Packed(_) => "packed",
            Right::Rounded(_) => "bfloat16",
            Right::Halves(_) => "float16",
            Right::Computed(_) => "computed",
        };
        let [from, to] = [(self.from, "of"), (self.to, "to")].map(|(dtype, word)| match dtype {
            DType::F32 => String::new(),
            dtype => format!(" {word} {dtype}"),
        });
        format!("gemm {side} {}x{}x{}x{}{from}{to}", self.left.len(), self.m, self.k, self.n)
    }

    fn workspace(&self) -> usize {
        match self.right {
            Right::Packed(_) => 0,
            Right::Rounded(_) if self.from == DType::F32 => self.m * self.k * 2,
            Right::Rounded(_) => 0,
            Right::Halves(_) => halves_scratch_len(self.isa, self.m) * 4,
            Right::Computed(_) => PackedView::scratch_len(self.isa, self.k, self.n) * 4,
        }
    }

    fn division(&self) -> Division {
        match self.right {
            Right::Packed(_) if self.left.len() == 1 => {
                Division::of_product(self.m, self.k, self.n, self.k * self.n * 4, 4)
            }
            Right::Rounded(_) => Division::of_product(self.m, self.k, self.n, self.k * self.n * 2, 2),
            Right::Halves(_) => Division::of_product(self.m, self.k, self.n, self.k * self.n * 2, 4),
            _ => Division::units(self.left.len(), 1),
        }
    }

    fn weights(&self, part: usize, of: usize) -> &[u8] {
        match &self.right {
            Right::Packed(b) if self.left.len() == 1 => b.bytes_from(self.division().first_column(part, of)),
            _ => &[],
        }
    }

    fn tells_extremes(&self) -> bool {
        // A tile stores its registers itself where nothing but bounds is to be done: going through them afterwards takes
        // less time than to have it done elsewhere.
        self.activation.bounds().is_none() || matches!(self.division(), Division::Columns { .. })
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let (m, k, n) = (self.m, self.k, self.n);
        let bias: Option<&[f32]> = self.bias.map(|i| io.input(i)).transpose()?;
        let in_place = self.residual.is_some() && io.in_place() == self.residual;
        let residual: Option<&[f32]> = match self.residual {
            Some(index) if !in_place => Some(io.input(index)?),
            _ => None,
        };
        let next = if self.left.len() == 1 { context.next } else { &[] };
        let (pack_rows, extremes) = (context.pack_rows, context.extremes);
        let epilogue = |batch: usize| {
            let residual = match residual {
                _ if in_place => Some(gemm::Residual::OutputBefore),
                Some(r) => Some(gemm::Residual::Before(Matrix::dense(&r[batch * m * n..(batch + 1) * m * n], m, n))),
                None => None,
            };
            let activation = self.activation;
            gemm::Epilogue { bias, residual, activation, extremes, next, pack_rows, ..Default::default() }
        };
        let share = io.share();
        if let Right::Rounded(b) = &self.right {
            let out = self.output(io)?;
            let (rows, columns) = self.division().region(share, m, n);
            if !rows.is_empty() && !columns.is_empty() {
                let a: &[bf16] = if self.from == DType::BF16 {
                    io.input(0)?
                } else {
                    let a: &[f32] = io.input(0)?;
                    let scratch: &mut [u16] = bytemuck::cast_slice_mut(context.workspace);
                    let rounded: &mut [bf16] = scratch[..m * k].reinterpret_cast_mut();
                    let own = rows.start * k..rows.end * k;
                    bf16_from_f32(self.isa, &a[own.clone()], &mut rounded[own]);
                    rounded
                };
                gemm_bf16_region(self.isa, Matrix::dense(a, m, k), b, rows, columns, out, &epilogue(0));
            }
            return Ok(());
        }
        let a: &[f32] = io.input(0)?;
        if let Right::Halves(b) = &self.right {
            let out = io.output_matrix::<f32>(0, n)?;
            let (rows, columns) = self.division().region(share, m, n);
            if !rows.is_empty() && !columns.is_empty() {
                let (a, scratch) = (Matrix::dense(a, m, k), bytemuck::cast_slice_mut(context.workspace));
                gemm_halves(self.isa, a, b, rows, columns, out, &epilogue(0), scratch);
            }
            return Ok(());
        }
        if let (Right::Packed(b), [0]) = (&self.right, &self.left[..]) {
            let out = self.output(io)?;
            let (rows, columns) = self.division().region(share, m, n);
            if !rows.is_empty() && !columns.is_empty() {
                gemm_region(self.isa, Matrix::dense(a, m, k), &**b, rows, columns, out, &epilogue(0));
            }
            return Ok(());
        }
        let mut out = self.output(io)?;
        if out.size().0 == 0 || n == 0 {
            return Ok(());
        }
        for (own, batch) in share.enumerate() {
            let left = self.left[batch];
            let a = Matrix::dense(&a[left * m * k..(left + 1) * m * k], m, k);
            let out = out.part(own * m..(own + 1) * m);
            match &self.right {
                Right::Packed(b) => gemm(self.isa, a, &**b, out, &epilogue(batch)),
                Right::Rounded(_) | Right::Halves(_) => bail!(Internal, "a batch of products with half the bytes"),
                Right::Computed(right) => {
                    let b: &[f32] = io.input(1)?;
                    let b = &b[right[batch] * k * n..(right[batch] + 1) * k * n];
                    let scratch = bytemuck::cast_slice_mut(context.workspace);
                    let b = PackedView::pack_into(self.isa, b, k, n, Layout::RowMajor { stride: n }, scratch);
                    gemm(self.isa, a, b, out, &epilogue(batch));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Profile;
    use crate::graph::Graph;
    use crate::ops::elementwise::{Cast, Unary, UnaryKind};
    use crate::ops::layout::Transpose;
    use crate::ops::matrix::{Gemm, MatMul};
    use crate::tensor::{DType, Fact, Tensor};
    use crate::{CompileOptions, Model};
    use bytes::Bytes;

    #[test]
    fn a_transposed_weight_is_packed_as_it_lies() {
        const SIZES: [usize; 2] = [70, 33];
        let weights: Vec<f32> = (0..70 * 33).map(|i| (i % 17) as f32 - 8.0).collect();
        let mut bytes = vec![0u8];
        bytes.extend_from_slice(bytemuck::cast_slice(&weights));
        let weight = Tensor::from_file(DType::F32, SIZES, Bytes::from(bytes).slice(1..)).unwrap();
        let mut graph = Graph::new("rows");
        let x = graph.input("x", Fact::concrete(DType::F32, &[2, 33])).unwrap();
        let w = graph.constant("w", weight.clone()).unwrap();
        let y = graph.op("y", Gemm { trans_b: true, ..Gemm::default() }, &[x, w]).unwrap();
        graph.output(y).unwrap();
        let input = [Tensor::new([2, 33], (0..66).map(|i| (i % 5) as f32).collect()).unwrap()];
        let model = Model::from_graph(graph.clone()).unwrap().compile(&CompileOptions::new()).unwrap();
        let outputs = model.run(input.clone()).unwrap();
        assert!(weight.unaligned_bytes().is_some(), "the weight was copied");
        let turned = model.graph().nodes().unwrap().find_map(|(_, node)| model.graph().constant_of(node.input(1)?));
        assert!(turned.unwrap().transposed_of().is_some(), "the transposition was kept");
        assert_eq!(outputs[0], graph.interpret(&input).unwrap()[0]);
    }

    #[test]
    fn a_cast_is_stored_by_the_product() {
        let numbers = |shape: &[usize], seed: usize| {
            let number = |i: usize| ((i * 31 + seed * 7) % 101) as f32 / 20.0 - 2.5;
            Tensor::new(shape, (0..shape.iter().product()).map(number).collect::<Vec<f32>>()).unwrap()
        };
        // One matrix, several with one B, several with one each; what is done with B, and A.
        for (a, b) in [([1, 7, 40], vec![40, 150]), ([3, 7, 40], vec![40, 33]), ([3, 7, 40], vec![3, 40, 33])] {
            for to in [DType::F16, DType::BF16] {
                let mut graph = Graph::new("halves");
                let x = graph.input("x", Fact::concrete(DType::F32, &a)).unwrap();
                let w = graph.constant("w", numbers(&b, 1)).unwrap();
                let y = graph.op("y", MatMul, &[x, w]).unwrap();
                let y = graph.op("relu", Unary(UnaryKind::Tanh), &[y]).unwrap();
                let y = graph.op("turned", Transpose { perm: Some(vec![1, 2, 0]) }, &[y]).unwrap();
                let y = graph.op("half", Cast { to }, &[y]).unwrap();
                graph.output(y).unwrap();
                let input = [numbers(&a, 2)];
                let model = Model::from_graph(graph).unwrap();
                let run = |options: CompileOptions| {
                    let compiled = model.compile(&options).unwrap();
                    let plan = compiled.plan(&[input[0].shape().clone()]).unwrap();
                    let mut profile = Profile::new();
                    plan.run_profiled(&mut plan.scratch().unwrap(), &input, &mut profile).unwrap();
                    (compiled.run(input.clone()).unwrap()[0].clone(), profile.steps.len(), plan.fallbacks())
                };
                let (plain, steps, _) = run(CompileOptions::new().threads(1).optimize(false));
                for threads in [1, 4] {
                    let (stored, fewer, fallbacks) = run(CompileOptions::new().threads(threads));
                    assert_eq!((stored.dtype(), fallbacks), (to, Vec::new()));
                    assert_eq!(fewer, steps - 2, "the function and the cast are not the product's");
                    assert_eq!(stored.as_bytes(), plain.as_bytes(), "{a:?} by {b:?} to {to}");
                }
            }
        }
    }
}
