//! A graph cut into stages: parts that follow one another, each a graph of its own.
//!
//! Where to cut is for the caller to decide, who knows what the nodes cost.

use super::{Graph, ValueId};
use crate::error::{Result, bail, ensure};
use crate::tensor::Fact;
use std::collections::HashMap;

/// One part of a graph that was cut.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stage {
    /// The part: its inputs are what it takes, its outputs what it gives, in these orders.
    pub graph: Graph,
    /// Values of the whole graph that it needs: inputs of that graph, or what earlier stages give.
    pub takes: Vec<ValueId>,
    /// Values of the whole graph that later stages need, or that are outputs of that graph.
    pub gives: Vec<ValueId>,
}

/// The places between nodes at which a value is there and still needed: place `k` lies before the node that is `k`-th in
/// order.
struct Span {
    value: ValueId,
    born: usize,
    needed: usize,
}

impl Graph {
    fn spans(&self) -> Result<Vec<Span>> {
        let order = self.order()?;
        let mut rank = vec![0; self.node_capacity()];
        order.iter().enumerate().for_each(|(at, node)| rank[node.index()] = at);
        let mut spans: HashMap<ValueId, Span> = HashMap::new();
        let mut add = |value: ValueId, needed: usize| {
            if self.constant_of(value).is_none() {
                let born = self.producer(value).map_or(0, |(node, _)| rank[node.index()] + 1);
                let span = spans.entry(value).or_insert(Span { value, born, needed });
                span.needed = span.needed.max(needed);
            }
        };
        for (at, (_, node)) in self.nodes()?.enumerate() {
            node.inputs().iter().flatten().for_each(|value| add(*value, at));
        }
        self.outputs().iter().for_each(|value| add(*value, order.len()));
        let mut spans: Vec<Span> = spans.into_values().collect();
        crate::order::sort_by(&mut spans, |a, b| a.value.cmp(&b.value));
        Ok(spans)
    }

    /// The values that a cut before the `k`-th node in order would part from those who need them, for each `k` from 0 to
    /// the number of nodes. Constants are not among them: each stage has its own.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when there is a cycle.
    pub fn crossings(&self) -> Result<Vec<Vec<ValueId>>> {
        let mut crossings = vec![Vec::new(); self.order()?.len() + 1];
        for span in self.spans()? {
            for place in crossings.iter_mut().take(span.needed + 1).skip(span.born) {
                place.push(span.value);
            }
        }
        Ok(crossings)
    }

    /// Cuts before the nodes at `places`, counted in order: one stage more than there are places.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for places that do not ascend between the first and the last node.
    pub fn stages(&self, places: &[usize]) -> Result<Vec<Stage>> {
        let count = self.order()?.len();
        let bounds: Vec<usize> = std::iter::once(0).chain(places.iter().copied()).chain([count]).collect();
        let ascend = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        ensure!(ascend, InvalidInput, "the places {places:?} do not cut {count} nodes into parts");
        let spans = self.spans()?;
        bounds.windows(2).enumerate().map(|(stage, pair)| self.stage(stage, pair[0], pair[1], &spans)).collect()
    }

    /// The nodes from the `begin`-th up to the `end`-th.
    fn stage(&self, number: usize, begin: usize, end: usize, spans: &[Span]) -> Result<Stage> {
        let mut graph = Graph::new(&format!("{} stage {number}", self.name()));
        let mut here: HashMap<ValueId, ValueId> = HashMap::new();
        let (mut takes, mut gives) = (Vec::new(), Vec::new());
        let nodes: Vec<_> = self.nodes()?.skip(begin).take(end - begin).map(|(_, node)| node).collect();
        let born: HashMap<ValueId, usize> = spans.iter().map(|span| (span.value, span.born)).collect();
        for &value in nodes.iter().flat_map(|node| node.inputs().iter().flatten()) {
            if here.contains_key(&value) {
                continue;
            }
            let (name, fact) = (self.value(value).name(), self.fact(value));
            if let Some(constant) = self.constant_of(value) {
                here.insert(value, graph.constant(name, constant.clone())?);
            } else if born.get(&value).is_some_and(|&born| born <= begin) {
                let fact = Fact { shape: fact.shape.clone(), ..Fact::unranked(fact.dtype) };
                here.insert(value, graph.input(name, fact)?);
                takes.push(value);
            }
        }
        for node in nodes {
            let inputs: Vec<Option<ValueId>> = node
                .inputs()
                .iter()
                .map(|input| match input {
                    Some(value) => match here.get(value) {
                        Some(own) => Ok(Some(*own)),
                        None => bail!(Internal, "{node} takes a value that no stage gives"),
                    },
                    None => Ok(None),
                })
                .collect::<Result<_>>()?;
            let names: Vec<Option<&str>> =
                node.outputs().iter().map(|output| output.map(|value| self.value(value).name())).collect();
            let outputs = graph.node(node.name(), node.op().clone(), &inputs, &names)?;
            let made = node.outputs().iter().zip(outputs).filter_map(|(whole, own)| Some(((*whole)?, own?)));
            here.extend(made);
        }
        for span in spans.iter().filter(|span| (begin + 1..=end).contains(&span.born) && span.needed >= end) {
            if let Some(own) = here.get(&span.value) {
                graph.output(*own)?;
                gives.push(span.value);
            }
        }
        Ok(Stage { graph, takes, gives })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
    use crate::tensor::{DType, Tensor};

    /// x -> a -> b -> c, with a connection from a to c, and b an output as well.
    fn residual() -> Graph {
        let mut graph = Graph::new("residual");
        let x = graph.input("x", Fact::concrete(DType::F32, &[3])).unwrap();
        let one = graph.constant("one", Tensor::scalar(1.0f32)).unwrap();
        let a = graph.op("a", Binary(BinaryKind::Add), &[x, one]).unwrap();
        let b = graph.op("b", Unary(UnaryKind::Exp), &[a]).unwrap();
        let c = graph.op("c", Binary(BinaryKind::Mul), &[a, b]).unwrap();
        let d = graph.op("d", Binary(BinaryKind::Add), &[c, one]).unwrap();
        graph.output(d).unwrap();
        graph.output(b).unwrap();
        graph
    }

    #[test]
    fn a_place_is_crossed_by_what_is_needed_behind_it() {
        let graph = residual();
        let names = |values: &Vec<ValueId>| -> Vec<String> {
            values.iter().map(|value| graph.value(*value).name().to_owned()).collect()
        };
        let crossings: Vec<_> = graph.crossings().unwrap().iter().map(names).collect();
        assert_eq!(crossings, [vec!["x"], vec!["a"], vec!["a", "b"], vec!["b", "c"], vec!["b", "d"]]);
    }

    #[test]
    fn stages_one_after_the_other_are_the_whole() {
        let graph = residual();
        let x = Tensor::vector(vec![0.5f32, -1.0, 2.0]);
        let whole = graph.interpret(std::slice::from_ref(&x)).unwrap();
        for places in [vec![1], vec![2], vec![3], vec![1, 2], vec![1, 2, 3]] {
            let mut values: HashMap<ValueId, Tensor> = HashMap::from([(graph.inputs()[0], x.clone())]);
            let stages = graph.stages(&places).unwrap();
            assert_eq!(stages.len(), places.len() + 1);
            for stage in stages {
                stage.graph.verify().unwrap();
                let taken: Vec<Tensor> = stage.takes.iter().map(|value| values[value].clone()).collect();
                values.extend(stage.gives.iter().copied().zip(stage.graph.interpret(&taken).unwrap()));
            }
            let outputs: Vec<Tensor> = graph.outputs().iter().map(|value| values[value].clone()).collect();
            assert_eq!(outputs, whole, "{places:?}");
        }
    }

    #[test]
    fn places_that_cut_nothing_are_refused() {
        for places in [vec![0], vec![4], vec![2, 2], vec![3, 1]] {
            assert!(residual().stages(&places).is_err(), "{places:?}");
        }
    }
}
