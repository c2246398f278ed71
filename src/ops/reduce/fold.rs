//! Folding groups of elements: floats in `f64`, integers and `bool` in `i128`, one running value a group.

use super::ReduceKind;
use crate::error::Result;
use crate::ops::numeric::{collect_integers, from_f64, read_floats, read_integers};
use crate::tensor::{DType, Shape, Tensor, broadcast_index};

/// `kind` of the groups of `x`; `groups` is its shape with the reduced axes of length 1.
pub(super) fn fold(kind: ReduceKind, x: &Tensor, groups: &Shape) -> Result<Tensor> {
    let through_float =
        x.dtype().is_float() || matches!(kind, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp);
    if through_float {
        return from_f64(x.dtype(), groups.clone(), floats(kind, x, groups)?);
    }
    collect_integers(x.dtype(), groups, &mut integers(kind, x, groups)?.into_iter().map(Ok))
}

fn floats(kind: ReduceKind, x: &Tensor, groups: &Shape) -> Result<Vec<f64>> {
    let read = read_floats(x)?;
    let count = groups.checked_len()?;
    let join = |start: f64, f: &dyn Fn(usize, f64, f64) -> f64| {
        let mut results = vec![start; count];
        for (place, group) in broadcast_index(groups, x.shape()).enumerate() {
            results[group] = f(group, results[group], read(place));
        }
        results
    };
    let greatest = |_, a: f64, v: f64| if v > a || v.is_nan() { v } else { a };
    let least = |_, a: f64, v: f64| if v < a || v.is_nan() { v } else { a };
    let sum = |_, a: f64, v: f64| a + v;
    let squares = |_, a: f64, v: f64| v.mul_add(v, a);
    let finish = |mut results: Vec<f64>, f: &dyn Fn(f64) -> f64| {
        results.iter_mut().for_each(|v| *v = f(*v));
        results
    };
    Ok(match kind {
        ReduceKind::Sum => join(0.0, &sum),
        ReduceKind::Mean => {
            let size = x.len() as f64 / count as f64;
            finish(join(0.0, &sum), &|v| v / size)
        }
        ReduceKind::Max => join(f64::NEG_INFINITY, &greatest),
        ReduceKind::Min => join(f64::INFINITY, &least),
        ReduceKind::Prod => join(1.0, &|_, a, v| a * v),
        ReduceKind::L1 => join(0.0, &|_, a, v| a + v.abs()),
        ReduceKind::L2 => finish(join(0.0, &squares), &f64::sqrt),
        ReduceKind::SumSquare => join(0.0, &squares),
        ReduceKind::LogSum => finish(join(0.0, &sum), &f64::ln),
        ReduceKind::LogSumExp => {
            // Taking the greatest out keeps the exponentials finite; an infinite one is the answer already.
            let tops = join(f64::NEG_INFINITY, &greatest);
            let mut results = join(0.0, &|group, a, v| a + (v - tops[group]).exp());
            for (result, &top) in results.iter_mut().zip(&tops) {
                *result = if top.is_finite() { top + result.ln() } else { top };
            }
            results
        }
    })
}

fn integers(kind: ReduceKind, x: &Tensor, groups: &Shape) -> Result<Vec<i128>> {
    let read = read_integers(x)?;
    let count = groups.checked_len()?;
    let (least, greatest) = range(x.dtype());
    let start = match kind {
        ReduceKind::Prod => 1,
        ReduceKind::Max => least,
        ReduceKind::Min => greatest,
        _ => 0,
    };
    let mut results = vec![start; count];
    for (place, group) in broadcast_index(groups, x.shape()).enumerate() {
        let (a, v) = (results[group], read(place));
        results[group] = match kind {
            ReduceKind::Max => a.max(v),
            ReduceKind::Min => a.min(v),
            ReduceKind::Prod => a.wrapping_mul(v),
            ReduceKind::L1 => a.wrapping_add(v.abs()),
            ReduceKind::SumSquare => a.wrapping_add(v.wrapping_mul(v)),
            _ => a.wrapping_add(v),
        };
    }
    if kind == ReduceKind::Mean {
        let size = x.len().checked_div(count).unwrap_or(0) as i128;
        results.iter_mut().for_each(|v| *v = v.checked_div(size).unwrap_or(0));
    }
    Ok(results)
}

/// The least and the greatest value of an integer type or `bool`.
fn range(dtype: DType) -> (i128, i128) {
    if dtype == DType::Bool {
        return (0, 1);
    }
    let bits = 8 * dtype.size() as u32;
    if dtype.is_signed_integer() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}
