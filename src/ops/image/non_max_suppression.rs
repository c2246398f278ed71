//! `NonMaxSuppression`: the best boxes that do not overlap better ones.

use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::order::argsort;
use crate::tensor::{DType, Dim, Fact, Tensor};

/// Picks boxes by score: `[batch, boxes, 4]`, `[batch, classes, boxes]` and the optional scalars of how many a class
/// may keep (none by default), the overlap above which a box is dropped, and the score that it must exceed; the
/// result lists `[batch, class, box]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonMaxSuppression {
    /// Whether boxes are center and size, rather than two corners.
    pub center_point_box: bool,
}

impl NonMaxSuppression {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(NonMaxSuppression { center_point_box: node.flag_or("center_point_box", false)? }.into())
    }

    /// Lower and upper corner of a box.
    fn corners(&self, b: &[f64]) -> [[f64; 2]; 2] {
        if self.center_point_box {
            let half = [b[2] / 2.0, b[3] / 2.0];
            [[b[0] - half[0], b[1] - half[1]], [b[0] + half[0], b[1] + half[1]]]
        } else {
            [[b[0].min(b[2]), b[1].min(b[3])], [b[0].max(b[2]), b[1].max(b[3])]]
        }
    }
}

/// Intersection over union of two boxes; 0 where one is empty.
fn overlap([low_a, high_a]: [[f64; 2]; 2], [low_b, high_b]: [[f64; 2]; 2]) -> f64 {
    let mut shared = 1.0;
    for axis in 0..2 {
        shared *= (high_a[axis].min(high_b[axis]) - low_a[axis].max(low_b[axis])).max(0.0);
    }
    let area = |low: [f64; 2], high: [f64; 2]| (high[0] - low[0]) * (high[1] - low[1]);
    let (a, b) = (area(low_a, high_a), area(low_b, high_b));
    let union = a + b - shared;
    if shared > 0.0 && a > 0.0 && b > 0.0 && union > 0.0 { shared / union } else { 0.0 }
}

/// The number of an optional input.
fn scalar(input: Option<&Tensor>) -> Result<Option<f64>> {
    match input.map(Tensor::to_f64_vec).transpose()?.as_deref() {
        None | Some([]) => Ok(None),
        Some([value]) => Ok(Some(*value)),
        Some(other) => bail!(Shape, "a threshold of {} numbers", other.len()),
    }
}

impl Op for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (boxes, scores) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(boxes.dtype.is_float() && scores.dtype.is_float(), InvalidModel, "boxes and scores must be floats");
        for fact in [boxes, scores] {
            ensure!(fact.rank().is_none_or(|rank| rank == 3), Shape, "{fact} has not the rank 3");
        }
        if let (Some(boxes), Some(scores)) = (boxes.dims(), scores.dims()) {
            boxes[0].unify(&scores[0]).map_err(|e| e.at("the batch axis"))?;
            boxes[1].unify(&scores[2]).map_err(|e| e.at("the axis of boxes"))?;
            boxes[2].unify(&Dim::Known(4)).map_err(|e| e.at("the numbers of a box"))?;
        }
        Ok(vec![Fact::new(DType::I64, vec![Dim::Unknown, Dim::Known(3)])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (boxes, scores) = (inputs.require(0)?, inputs.require(1)?);
        let &[batches, classes, count] = &**scores.shape() else { bail!(Shape, "scores {}", scores.shape()) };
        let most = scalar(inputs.get(2))?.map_or(0, |most| most.max(0.0) as usize);
        let threshold = scalar(inputs.get(3))?.unwrap_or(0.0);
        let floor = scalar(inputs.get(4))?;
        budget.admit_bytes(scores.len().saturating_mul(24))?;
        budget.spend(scores.len().saturating_mul(count.min(most)))?;
        let boxes: Vec<_> = boxes.to_f64_vec()?.chunks_exact(4).map(|b| self.corners(b)).collect();
        let scores = scores.to_f64_vec()?;
        let mut picked: Vec<i64> = Vec::new();
        for (row, scores) in scores.chunks_exact(count.max(1)).enumerate().take(batches * classes) {
            let (batch, class) = (row / classes, row % classes);
            let above: Vec<usize> = (0..count).filter(|&i| floor.is_none_or(|floor| scores[i] > floor)).collect();
            let order = argsort(above.len(), |a, b| scores[above[b]].total_cmp(&scores[above[a]]));
            let own = &boxes[batch * count..(batch + 1) * count];
            let mut kept: Vec<usize> = Vec::new();
            for i in order.into_iter().map(|place| above[place]) {
                if kept.len() >= most {
                    break;
                }
                if kept.iter().all(|&better| overlap(own[i], own[better]) <= threshold) {
                    kept.push(i);
                }
            }
            picked.extend(kept.into_iter().flat_map(|i| [batch as i64, class as i64, i as i64]));
        }
        Ok(vec![Tensor::new([picked.len() / 3, 3], picked)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("center_point_box", self.center_point_box)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn overlapping_boxes_are_dropped() {
        let boxes = vec![0.0f32, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.1, 0.0, 5.0, 1.0, 6.0, 0.0, 0.0, 0.0, 0.0];
        let boxes = Tensor::new([1, 4, 4], boxes).unwrap();
        let scores = Tensor::new([1, 1, 4], vec![0.8f32, 0.9, 0.3, 0.1]).unwrap();
        let pick = |most: i64, floor: f32| {
            let (most, overlap, floor) = (Tensor::scalar(most), Tensor::scalar(0.5f32), Tensor::scalar(floor));
            let op = NonMaxSuppression { center_point_box: false };
            let y = run_one(&op, &[&boxes, &scores, &most, &overlap, &floor]).unwrap();
            y.to_i64_vec().unwrap().chunks(3).map(|row| row[2]).collect::<Vec<_>>()
        };
        assert_eq!(pick(9, 0.0), [1, 2, 3]);
        assert_eq!(pick(9, 0.5), [1]);
        assert_eq!(pick(2, 0.0), [1, 2]);
        assert_eq!(pick(-1, 0.0), [0i64; 0]);
    }

    #[test]
    fn boxes_may_be_centered() {
        let boxes = Tensor::new([1, 2, 4], vec![0.5f32, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0]).unwrap();
        let scores = Tensor::new([1, 1, 2], vec![0.5f32, 0.5]).unwrap();
        let y = run_one(&NonMaxSuppression { center_point_box: true }, &[&boxes, &scores, &Tensor::scalar(2i64)]);
        assert_eq!(y.unwrap().to_i64_vec().unwrap(), [0, 0, 0]);
        let op = NonMaxSuppression { center_point_box: true };
        assert!(run_one(&op, &[&boxes, &boxes]).is_err());
    }
}
