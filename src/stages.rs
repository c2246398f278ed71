//! Where a model is cut into stages: so that the slowest stage, with what is handed to it, is as quick as can be.
//!
//! The times are measured, node by node, on this machine. How the stages run is left to `pipeline`.

use crate::backend::Profile;
use crate::error::{Result, bail, ensure};
use crate::model::CompiledModel;
use crate::stacking::BatchAxes;
use crate::tensor::{Dim, Shape, Tensor};
use std::collections::HashMap;
use std::time::Duration;

/// Lengths of axes that a model leaves open, but for the rows, while its nodes are timed.
const OPEN_LENGTH: usize = 32;
/// Profiled runs after a first one that warms up.
const RUNS: u64 = 5;
/// What handing a byte from stage to stage costs, in nanoseconds: a write and a read through the shared cache.
const BYTE: f64 = 0.1;

/// What is known of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageInfo {
    /// Nodes of the optimized graph in it.
    pub nodes: usize,
    /// How long they took when they were measured.
    pub time: Duration,
    /// Bytes that are handed to it for each micro-batch.
    pub bytes: usize,
}

/// Where a model is cut.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    pub(crate) places: Vec<usize>,
    pub(crate) stages: Vec<StageInfo>,
}

/// Shapes of the inputs with `rows` rows.
fn shapes(model: &CompiledModel, rows: usize) -> Result<Vec<Shape>> {
    let axes = BatchAxes::of(model.inputs());
    let of = |(index, info): (usize, &crate::model::ValueInfo)| -> Result<Shape> {
        let Some(dims) = &info.shape else { bail!(InvalidInput, "input {info} has no rank; it cannot be timed") };
        let batch = axes.as_ref().and_then(|axes| axes.inputs[index]);
        let length = |(at, dim): (usize, &Dim)| match dim {
            Dim::Known(length) => *length,
            _ if Some(at) == batch => rows,
            _ => OPEN_LENGTH,
        };
        Ok(dims.iter().enumerate().map(length).collect())
    };
    model.inputs().iter().enumerate().map(of).collect()
}

/// Nanoseconds of each node in order, for `rows` rows. What cannot be told apart gets equal parts of what is left.
fn measure(model: &CompiledModel, shapes: &[Shape]) -> Result<Vec<f64>> {
    let plan = model.serial_plan(shapes)?;
    let inputs = model.inputs().iter().zip(shapes).map(|(info, shape)| match &info.default {
        Some(tensor) if tensor.shape() == shape => Ok(tensor.clone()),
        _ => Tensor::zeros(info.dtype, shape.clone()),
    });
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let mut scratch = plan.scratch()?;
    plan.run(&mut scratch, &inputs)?;
    let mut profile = Profile::new();
    for _ in 0..RUNS {
        plan.run_profiled(&mut scratch, &inputs, &mut profile)?;
    }
    let mut by_name: HashMap<&str, f64> = HashMap::new();
    for step in &profile.steps {
        *by_name.entry(step.name.as_str()).or_default() += step.nanoseconds as f64 / RUNS as f64;
    }
    let mut costs = Vec::new();
    for (_, node) in model.graph().nodes()? {
        costs.push(by_name.remove(node.name()).unwrap_or(0.0));
    }
    let rest = by_name.values().sum::<f64>() / costs.len().max(1) as f64;
    costs.iter_mut().for_each(|cost| *cost += rest);
    Ok(costs)
}

/// The places that cut `costs` into `stages` parts; `crossing[k]` is what a cut before node `k` costs, `None` where none
/// may be. The slowest part decides, then what is handed over in all.
fn choose(costs: &[f64], crossing: &[Option<f64>], stages: usize) -> Option<Vec<usize>> {
    if stages > costs.len().max(1) {
        return None;
    }
    let mut sums = vec![0.0];
    costs.iter().for_each(|cost| sums.push(sums[sums.len() - 1] + cost));
    let nodes = costs.len();
    // best[k]: the slowest part, all that is handed over, and the last place, for so many parts of the first k nodes.
    let first = |end: usize| (end > 0).then(|| (sums[end], 0.0, 0));
    let mut best: Vec<Vec<Option<(f64, f64, usize)>>> = vec![(0..=nodes).map(first).collect()];
    for stage in 1..stages {
        let before = &best[stage - 1];
        let until = |end: usize| {
            let parts = (1..end).filter_map(|place| {
                let (slowest, handed, _) = before[place]?;
                let over = crossing[place]?;
                Some((slowest.max(sums[end] - sums[place] + over), handed + over, place))
            });
            parts.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))
        };
        let row = (0..=nodes).map(until).collect();
        best.push(row);
    }
    let (mut places, mut end) = (Vec::new(), nodes);
    for stage in (1..stages).rev() {
        end = best[stage][end]?.2;
        places.insert(0, end);
    }
    Some(places)
}

/// Cuts `model` into `count` stages for micro-batches of `rows` rows.
pub(crate) fn cut(model: &CompiledModel, count: usize, rows: usize) -> Result<Cut> {
    let shapes = shapes(model, rows)?;
    let graph = model.graph();
    let costs = measure(model, &shapes)?;
    let concrete = graph.specialize(&shapes)?;
    let crossings = graph.crossings()?;
    let bytes: Vec<Option<usize>> = crossings
        .iter()
        .map(|values| {
            // What shapes are computed from must stay with those who need it.
            let of = |value: &crate::graph::ValueId| {
                let settled = graph.fact(*value).content.is_none() && concrete.constant_of(*value).is_none();
                concrete.fact(*value).bytes().filter(|_| settled)
            };
            values.iter().map(of).try_fold(0_usize, |sum, bytes| Some(sum.saturating_add(bytes?)))
        })
        .collect();
    let crossing: Vec<Option<f64>> = bytes.iter().map(|bytes| bytes.map(|bytes| bytes as f64 * BYTE)).collect();
    let places = choose(&costs, &crossing, count);
    let Some(places) = places else {
        bail!(InvalidInput, "the model has no {} places to be cut at; ask for fewer stages", count.saturating_sub(1))
    };
    ensure!(places.len() + 1 == count, Internal, "{} places for {count} stages", places.len());
    let bounds: Vec<usize> = std::iter::once(0).chain(places.iter().copied()).chain([costs.len()]).collect();
    let info = |pair: &[usize]| StageInfo {
        nodes: pair[1] - pair[0],
        time: Duration::from_nanos(costs[pair[0]..pair[1]].iter().sum::<f64>() as u64),
        bytes: bytes[pair[0]].unwrap_or(0),
    };
    Ok(Cut { stages: bounds.windows(2).map(info).collect(), places })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stage_is_as_quick_as_can_be() {
        let free = vec![Some(0.0); 7];
        assert_eq!(choose(&[1.0, 1.0, 1.0, 3.0, 1.0, 1.0], &free, 2), Some(vec![3]));
        assert_eq!(choose(&[4.0, 1.0, 1.0, 1.0, 1.0, 4.0], &free, 3), Some(vec![1, 5]));
        assert_eq!(choose(&[1.0; 6], &free, 1), Some(vec![]));
    }

    #[test]
    fn small_tensors_are_cut_and_not_large_ones() {
        let mut crossing = vec![Some(0.0); 7];
        crossing[3] = Some(10.0);
        assert_eq!(choose(&[1.0; 6], &crossing, 2), Some(vec![2]));
        crossing[2] = None;
        crossing[4] = Some(1.5);
        assert_eq!(choose(&[1.0; 6], &crossing, 2), Some(vec![4]), "3.5 behind it");
    }

    #[test]
    fn too_many_stages_are_too_many() {
        assert_eq!(choose(&[1.0; 3], &[Some(0.0); 4], 4), None);
        assert_eq!(choose(&[1.0; 3], &[Some(0.0); 4], usize::MAX), None);
        assert_eq!(choose(&[1.0; 3], &[Some(0.0), None, None, Some(0.0)], 2), None);
    }
}
