//! The Gaussian error linear unit, exact or by the hyperbolic tangent, out of the arithmetic that spells it.
//!
//! At minus infinity the one operator yields the limit, 0, where the arithmetic yields NaN.

use super::pattern::{each, unary};
use super::polynomial::{Polynomial, Reading, arguments, root};
use crate::error::Result;
use crate::graph::{Graph, Node, Patch};
use crate::ops::elementwise::{Unary, UnaryKind};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

/// The factor of the cube in the approximation by the hyperbolic tangent.
const CUBE: f64 = 0.044715;

pub(super) fn recognize_gelu(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| gelu(graph, node))
}

/// `0.5 x (1 + e)` with `e = erf(x / √2)` or `e = tanh(√(2/π) (x + 0.044715 x³))`; the node yields e.
fn gelu(graph: &Graph, node: &Node) -> Option<Patch> {
    let (tanh, inner) = match unary(node)? {
        UnaryKind::Erf => (false, [0.0, FRAC_1_SQRT_2, 0.0, 0.0]),
        UnaryKind::Tanh => {
            let factor = FRAC_2_SQRT_PI / SQRT_2;
            (true, [0.0, factor, 0.0, factor * CUBE])
        }
        _ => return None,
    };
    let (argument, e) = (node.input(0)?, node.output(0)?);
    let half = Polynomial([[0.0, 0.5, 0.0, 0.0]; 2]);
    arguments(graph, argument).into_iter().find_map(|x| {
        let mut reading = Reading::new(graph, x, None);
        if !reading.read(argument)?.is(&Polynomial::in_x(inner), graph.fact(x).dtype) {
            return None;
        }
        let y = root(graph, x, e, &half, &reading.nodes)?;
        let mut patch = Patch::new();
        let gelu = patch.op(node.name(), Unary(UnaryKind::Gelu { tanh }), &[x.into()]);
        patch.replace(y, gelu);
        Some(patch)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, number, ramp};
    use super::*;
    use crate::graph::ValueId;
    use crate::ops::elementwise::{Binary, BinaryKind};

    /// The graph, with a way to write arithmetic down in it.
    struct Writer(Graph);

    impl Writer {
        fn apply(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> ValueId {
            self.0.op("b", Binary(kind), &[a, b]).unwrap()
        }

        fn with(&mut self, kind: BinaryKind, a: ValueId, b: f32) -> ValueId {
            let b = number(&mut self.0, b);
            self.apply(kind, a, b)
        }

        fn unary(&mut self, kind: UnaryKind, a: ValueId) -> ValueId {
            self.0.op("u", Unary(kind), &[a]).unwrap()
        }
    }

    fn checked(nodes: usize, write: impl Fn(&mut Writer, ValueId) -> ValueId) {
        let (graph, x) = graph_of(&[2, 32]);
        let mut writer = Writer(graph);
        // The argument is arithmetic itself, so that its borders must be found.
        let x = writer.with(BinaryKind::Add, x, 0.25);
        let y = write(&mut writer, x);
        writer.0.output(y).unwrap();
        check(&mut writer.0, recognize_gelu, &[ramp(&[2, 32])], nodes);
    }

    #[test]
    fn every_association_of_the_exact_form_is_found() {
        use BinaryKind::{Add, Div, Mul};
        let erf = |w: &mut Writer, x| {
            let u = w.with(Div, x, SQRT_2 as f32);
            w.unary(UnaryKind::Erf, u)
        };
        checked(2, |w, x| {
            let e = erf(w, x);
            let s = w.with(Add, e, 1.0);
            let p = w.apply(Mul, x, s);
            w.with(Mul, p, 0.5)
        });
        checked(2, |w, x| {
            let (half, e) = (w.with(Mul, x, 0.5), erf(w, x));
            let s = w.with(Add, e, 1.0);
            w.apply(Mul, half, s)
        });
        checked(2, |w, x| {
            let u = w.with(Mul, x, FRAC_1_SQRT_2 as f32);
            let e = w.unary(UnaryKind::Erf, u);
            let half = w.with(Mul, e, 0.5);
            let s = w.with(Add, half, 0.5);
            w.apply(Mul, s, x)
        });
        checked(2, |w, x| {
            let e = erf(w, x);
            let s = w.with(Add, e, 1.0);
            let s = w.with(Div, s, 2.0);
            w.apply(Mul, x, s)
        });
    }

    #[test]
    fn the_hyperbolic_form_is_found_with_a_power_or_products() {
        use BinaryKind::{Add, Mul, Pow};
        for power in [true, false] {
            checked(2, |w, x| {
                let cube = if power {
                    w.with(Pow, x, 3.0)
                } else {
                    let square = w.apply(Mul, x, x);
                    w.apply(Mul, square, x)
                };
                let cube = w.with(Mul, cube, CUBE as f32);
                let sum = w.apply(Add, x, cube);
                let u = w.with(Mul, sum, (FRAC_2_SQRT_PI / SQRT_2) as f32);
                let e = w.unary(UnaryKind::Tanh, u);
                let s = w.with(Add, e, 1.0);
                let half = w.with(Mul, x, 0.5);
                w.apply(Mul, half, s)
            });
        }
    }

    #[test]
    fn a_wrong_constant_or_a_second_user_keeps_the_parts() {
        use BinaryKind::{Add, Div, Mul};
        for (root, second_user) in [(1.5, false), (SQRT_2 as f32, true)] {
            checked(if second_user { 7 } else { 6 }, |w, x| {
                let u = w.with(Div, x, root);
                let e = w.unary(UnaryKind::Erf, u);
                let s = w.with(Add, e, 1.0);
                let p = w.apply(Mul, x, s);
                let y = w.with(Mul, p, 0.5);
                if second_user { w.apply(Add, y, u) } else { y }
            });
        }
    }
}
