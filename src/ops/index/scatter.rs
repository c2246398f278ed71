//! `ScatterElements` and `ScatterND`: a tensor with some of its elements replaced or combined with others.

use super::gather::{check_element_indices, check_indices, element_places};
use super::gather_nd::{check_tuples, slice_starts};
use crate::error::{Result, bail, ensure, err};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor, with_bits};

/// How an update meets the element that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ScatterReduction {
    /// The update replaces it; of several updates the last stays.
    #[default]
    None,
    /// Their sum.
    Add,
    /// Their product.
    Mul,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl ScatterReduction {
    fn read(node: &mut NodeReader) -> Result<Self> {
        Ok(match node.str_or("reduction", "none")?.as_str() {
            "none" => ScatterReduction::None,
            "add" => ScatterReduction::Add,
            "mul" => ScatterReduction::Mul,
            "max" => ScatterReduction::Max,
            "min" => ScatterReduction::Min,
            other => bail!(InvalidModel, "reduction {other:?} is none of none, add, mul, max and min"),
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            ScatterReduction::None => "none",
            ScatterReduction::Add => "add",
            ScatterReduction::Mul => "mul",
            ScatterReduction::Max => "max",
            ScatterReduction::Min => "min",
        }
    }

    fn floats(self, there: f64, update: f64) -> f64 {
        match self {
            ScatterReduction::None => update,
            ScatterReduction::Add => there + update,
            ScatterReduction::Mul => there * update,
            ScatterReduction::Max if there.is_nan() || there > update => there,
            ScatterReduction::Min if there.is_nan() || there < update => there,
            ScatterReduction::Max | ScatterReduction::Min => update,
        }
    }

    fn integers(self, there: i64, update: i64, unsigned: bool) -> i64 {
        // A `u64` comes wrapped into an `i64`, where the order of the halves is reversed.
        let order = |v: i64| if unsigned { v ^ i64::MIN } else { v };
        match self {
            ScatterReduction::None => update,
            ScatterReduction::Add => there.wrapping_add(update),
            ScatterReduction::Mul => there.wrapping_mul(update),
            ScatterReduction::Max => std::cmp::max_by_key(there, update, |v| order(*v)),
            ScatterReduction::Min => std::cmp::min_by_key(there, update, |v| order(*v)),
        }
    }
}

/// `x` with update `i` put at offset `places[i]`, in order.
pub(in crate::ops) fn scatter(x: &Tensor, updates: &Tensor, places: &[usize], how: ScatterReduction) -> Result<Tensor> {
    let outside = || err!(Internal, "an index outside the tensor was let through");
    if how == ScatterReduction::None {
        return with_bits!(x.dtype().size(), T => {
            let mut out = x.bits::<T>()?.to_vec();
            for (&place, &update) in places.iter().zip(updates.bits::<T>()?) {
                *out.get_mut(place).ok_or_else(outside)? = update;
            }
            Tensor::from_bits(x.dtype(), x.shape().clone(), out)
        });
    }
    if x.dtype().is_float() {
        let mut out = x.to_f64_vec()?;
        for (&place, update) in places.iter().zip(updates.to_f64_vec()?) {
            let there = out.get_mut(place).ok_or_else(outside)?;
            *there = how.floats(*there, update);
        }
        return from_f64(x.dtype(), x.shape().clone(), out);
    }
    let mut out = x.to_i64_vec()?;
    for (&place, update) in places.iter().zip(updates.to_i64_vec()?) {
        let there = out.get_mut(place).ok_or_else(outside)?;
        *there = how.integers(*there, update, x.dtype() == DType::U64);
    }
    from_i64(x.dtype(), x.shape().clone(), out)
}

/// Puts each update where its index says: only the coordinate along the axis is replaced by the index.
///
/// Inputs are x, indices and updates, the last two of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScatterElements {
    /// The axis, counted from the end when negative.
    pub axis: i64,
    /// How an update meets what is there.
    pub reduction: ScatterReduction,
}

impl ScatterElements {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(ScatterElements { axis: node.int_or("axis", 0)?, reduction: ScatterReduction::read(node)? }.into())
    }
}

fn same_dtype(x: &Fact, updates: &Fact) -> Result<()> {
    ensure!(x.dtype == updates.dtype, Shape, "updates are {}, but are put into {}", updates.dtype, x.dtype);
    Ok(())
}

impl Op for ScatterElements {
    fn name(&self) -> &'static str {
        "ScatterElements"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices, updates) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        same_dtype(x, updates)?;
        check_element_indices(x, indices, self.axis)?;
        let shapes = Fact { dtype: updates.dtype, value: None, content: None, ..indices.clone() };
        updates.unify(&shapes).map_err(|e| e.at("updates against indices"))?;
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices, updates) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let places = element_places(x.shape(), indices, x.shape().axis(self.axis)?)?;
        Ok(vec![scatter(x, updates, &places, self.reduction)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).str("reduction", self.reduction.as_str())
    }
}

/// Puts slices where tuples of indices say; inputs are x, the tuples (along the last axis) and the slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScatterNd {
    /// How an update meets what is there.
    pub reduction: ScatterReduction,
}

impl ScatterNd {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(ScatterNd { reduction: ScatterReduction::read(node)? }.into())
    }
}

impl Op for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, indices, updates) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        same_dtype(x, updates)?;
        check_indices(indices)?;
        if let (Some(dims), Some(places)) = (x.dims(), indices.dims())
            && let Some(tuple) = check_tuples(dims, places, 0)?
        {
            let slices = [&places[..places.len() - 1], &dims[tuple..]].concat();
            updates.unify(&Fact::new(updates.dtype, slices)).map_err(|e| e.at("updates"))?;
        }
        Ok(vec![Fact { shape: x.shape.clone(), ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, indices, updates) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        if updates.is_empty() {
            return Ok(vec![x.clone()]);
        }
        let (starts, slice) = slice_starts(x.shape(), indices, 0)?;
        let places: Vec<usize> = starts.into_iter().flat_map(|start| start..start + slice).collect();
        Ok(vec![scatter(x, updates, &places, self.reduction)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().str("reduction", self.reduction.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn elements_are_put_one_by_one() {
        let x = Tensor::new([2, 3], vec![1u64, 2, u64::MAX, 4, 5, 6]).unwrap();
        let indices = Tensor::new([1, 3], vec![-1i64, 2, 0]).unwrap();
        let updates = Tensor::new([1, 3], vec![3u64, 4, 5]).unwrap();
        for (reduction, expected) in [
            (ScatterReduction::None, [5u64, 2, 4, 4, 5, 6]),
            (ScatterReduction::Add, [6, 2, 6, 4, 5, 6]),
            (ScatterReduction::Mul, [5, 2, 12u64.wrapping_neg(), 4, 5, 6]),
            (ScatterReduction::Max, [5, 2, u64::MAX, 4, 5, 6]),
            (ScatterReduction::Min, [1, 2, 3, 4, 5, 6]),
        ] {
            let y = run_one(&ScatterElements { axis: 1, reduction }, &[&x, &indices, &updates]).unwrap();
            assert_eq!(y.as_slice::<u64>().unwrap(), expected, "{reduction:?}");
        }
        let op = ScatterElements { axis: 0, reduction: ScatterReduction::None };
        assert!(run_one(&op, &[&x, &indices, &updates]).is_err());
        assert!(run_one(&op, &[&x, &indices, &updates.reshaped([3, 1]).unwrap()]).is_err());
        assert!(run_one(&op, &[&x, &indices, &updates.cast(DType::F32).unwrap()]).is_err());
    }

    #[test]
    fn slices_are_put_by_tuples() {
        let x = Tensor::new([3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, f32::NAN]).unwrap();
        let indices = Tensor::new([2, 1], vec![2i64, -3]).unwrap();
        let updates = Tensor::new([2, 2], vec![9.0f32; 4]).unwrap();
        let put = |reduction| run_one(&ScatterNd { reduction }, &[&x, &indices, &updates]).unwrap();
        assert_eq!(put(ScatterReduction::None).as_slice::<f32>().unwrap(), [9.0, 9.0, 3.0, 4.0, 9.0, 9.0]);
        let largest = put(ScatterReduction::Max);
        assert_eq!(largest.as_slice::<f32>().unwrap()[..5], [9.0, 9.0, 3.0, 4.0, 9.0]);
        assert!(largest.as_slice::<f32>().unwrap()[5].is_nan());
        let outside = Tensor::new([2, 1], vec![3i64, 0]).unwrap();
        assert!(run_one(&ScatterNd { reduction: ScatterReduction::Add }, &[&x, &outside, &updates]).is_err());
    }
}
