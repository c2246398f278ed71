//! Names for values: unique over the graph and all its bodies, as ONNX asks, and otherwise as they were.

use crate::tensor::{DType, Shape, Tensor};
use std::collections::{HashMap, HashSet};

/// The names that are given out.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    graphs: usize,
}

impl Names {
    /// `wanted`, or where that is taken or empty something like it.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let wanted = if wanted.is_empty() { "value" } else { wanted };
        let mut name = wanted.to_owned();
        let mut count = 1;
        while !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}_{count}");
        }
        name
    }

    /// The name of a graph, which must not be empty.
    pub(super) fn graph(&mut self, wanted: &str) -> String {
        self.graphs += 1;
        if wanted.is_empty() { format!("graph_{}", self.graphs) } else { wanted.to_owned() }
    }
}

/// A tensor by where its elements lie: equal for two constants that share them.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct Memory(usize, DType, Shape);

impl Memory {
    pub(super) fn of(tensor: &Tensor) -> Self {
        Memory(tensor.as_bytes().as_ptr() as usize, tensor.dtype(), tensor.shape().clone())
    }
}
