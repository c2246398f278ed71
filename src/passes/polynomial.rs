//! Arithmetic read as a polynomial, so that a formula is recognized in whatever association an exporter wrote it.

use super::pattern::{scalar_beside, sealed};
use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use crate::tensor::DType;
use std::ops::{Add, Mul};

/// Degrees of x that are kept, and of e.
const X: usize = 4;
const E: usize = 2;
/// Nodes on a path from a formula's result to its argument.
const DEPTH: usize = 6;

/// A polynomial in a value x and a value e that is made of x: `[j][i]` is the coefficient of `e^j x^i`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Polynomial(pub(super) [[f64; X]; E]);

impl Polynomial {
    /// In x alone.
    pub(super) fn in_x(coefficients: [f64; X]) -> Self {
        Polynomial([coefficients, [0.0; X]])
    }

    fn term(degree_e: usize, degree_x: usize, coefficient: f64) -> Self {
        let mut p = Polynomial([[0.0; X]; E]);
        p.0[degree_e][degree_x] = coefficient;
        p
    }

    /// The product, unless its degree is too high.
    fn times(self, other: Self) -> Option<Self> {
        let mut product = Polynomial([[0.0; X]; E]);
        for (j, i, a) in self.terms() {
            for (l, k, b) in other.terms() {
                *product.0.get_mut(j + l)?.get_mut(i + k)? += a * b;
            }
        }
        Some(product)
    }

    fn terms(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let rows = self.0.iter().enumerate();
        rows.flat_map(|(j, row)| row.iter().enumerate().map(move |(i, c)| (j, i, *c))).filter(|term| term.2 != 0.0)
    }

    fn as_number(&self) -> Option<f64> {
        self.terms().all(|(j, i, _)| (j, i) == (0, 0)).then_some(self.0[0][0])
    }

    /// True where the coefficients agree as closely as constants of this dtype can say them.
    pub(super) fn is(&self, other: &Polynomial, dtype: DType) -> bool {
        let tolerance = match dtype {
            DType::F32 | DType::F64 => 1e-5,
            DType::F16 => 1e-3,
            _ => 1e-2,
        };
        let pairs = self.0.iter().flatten().zip(other.0.iter().flatten());
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance * b.abs())
    }
}

impl Add for Polynomial {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (a, b) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *a += b;
        }
        self
    }
}

impl Mul<f64> for Polynomial {
    type Output = Self;

    fn mul(mut self, factor: f64) -> Self {
        self.0.iter_mut().flatten().for_each(|c| *c *= factor);
        self
    }
}

/// The arithmetic of a formula in x, and in e where that is given. Collects its nodes.
pub(super) struct Reading<'a> {
    graph: &'a Graph,
    x: ValueId,
    e: Option<ValueId>,
    /// The nodes that compute the polynomial.
    pub(super) nodes: Vec<NodeId>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(graph: &'a Graph, x: ValueId, e: Option<ValueId>) -> Self {
        Reading { graph, x, e, nodes: Vec::new() }
    }

    /// `value` as a polynomial; `None` where it is not one or takes something else than x, e and scalars.
    pub(super) fn read(&mut self, value: ValueId) -> Option<Polynomial> {
        self.descend(value, DEPTH)
    }

    fn descend(&mut self, value: ValueId, depth: usize) -> Option<Polynomial> {
        if value == self.x {
            return Some(Polynomial::term(0, 1, 1.0));
        }
        if Some(value) == self.e {
            return Some(Polynomial::term(1, 0, 1.0));
        }
        if self.graph.constant_of(value).is_some() {
            return Some(Polynomial::term(0, 0, scalar_beside(self.graph, value, self.x)?));
        }
        let depth = depth.checked_sub(1)?;
        let (id, node) = self.graph.producer(value)?;
        let first = self.descend(node.input(0)?, depth)?;
        let result = if let Some(Unary(kind)) = node.op().downcast_ref::<Unary>() {
            (*kind == UnaryKind::Neg).then_some(first * -1.0)?
        } else {
            let Binary(kind) = node.op().downcast_ref::<Binary>()?;
            let second = self.descend(node.input(1)?, depth)?;
            match kind {
                BinaryKind::Add => first + second,
                BinaryKind::Sub => first + second * -1.0,
                BinaryKind::Mul => first.times(second)?,
                BinaryKind::Div => first * second.as_number().filter(|n| *n != 0.0)?.recip(),
                BinaryKind::Pow => match second.as_number()? {
                    2.0 => first.times(first)?,
                    3.0 => first.times(first)?.times(first)?,
                    _ => return None,
                },
                _ => return None,
            }
        };
        if !self.nodes.contains(&id) {
            self.nodes.push(id);
        }
        Some(result)
    }
}

/// The values that `value` is computed from by arithmetic, itself first: what x may be in a formula of it.
pub(super) fn arguments(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let mut found = vec![value];
    let mut next = 0;
    while let Some(&value) = found.get(next)
        && next < 4 * DEPTH
    {
        next += 1;
        let Some((_, node)) = graph.producer(value) else { continue };
        if !(node.op().is::<Binary>() || node.op().is::<Unary>()) {
            continue;
        }
        for input in node.inputs().iter().flatten() {
            if graph.constant_of(*input).is_none() && !found.contains(input) {
                found.push(*input);
            }
        }
    }
    found
}

/// The value that is this polynomial of x and e, where it follows from e alone, and nothing else takes what stands
/// between: the nodes of `inner` and those on the way.
pub(super) fn root(graph: &Graph, x: ValueId, e: ValueId, wanted: &Polynomial, inner: &[NodeId]) -> Option<ValueId> {
    let dtype = graph.fact(x).dtype;
    let mut value = e;
    for _ in 0..DEPTH {
        let (id, user) = graph.single_user(value)?;
        value = user.output(0)?;
        let mut reading = Reading::new(graph, x, Some(e));
        if reading.read(value)?.is(wanted, dtype) {
            let mut nodes: Vec<NodeId> = inner.iter().copied().chain(reading.nodes).collect();
            nodes.extend(graph.producer(e).map(|(id, _)| id));
            nodes.retain(|node| *node != id);
            return (dtype.is_float() && sealed(graph, &nodes, id)).then_some(value);
        }
    }
    None
}
