//! Operators with random attributes, and random tensors for them, from sane to wild.

use crate::ops::{Attr, NodeReader, Op, OpDef, Reading, registry};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An operator and its operands, of which all but the first may be absent.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) op: Arc<dyn Op>,
    pub(super) tensors: Vec<Option<Tensor>>,
    /// How many outputs it has at least.
    pub(super) outputs: usize,
}

/// Hands `cases` cases of every registered operator to `meet`, which may end those of an operator by `false`.
pub(super) fn each(seed: u64, cases: usize, tame: bool, mut meet: impl FnMut(&mut fastrand::Rng, &Case) -> bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let pool = attribute_pool();
    for def in registry::all() {
        let most = (*def.inputs.end()).min(8);
        let accepted: Vec<&(&str, Vec<Attr>)> = pool
            .iter()
            .filter(|(name, values)| values.iter().any(|v| read(def, &[(name, v.clone())], most).is_some()))
            .collect();
        for _ in 0..cases {
            let mut attrs: Vec<(&str, Attr)> = Vec::new();
            for (name, values) in &accepted {
                if random.bool() {
                    attrs.push((name, values[random.usize(..values.len())].clone()));
                }
            }
            let count = random.usize((*def.inputs.start()).min(most)..=most);
            let Some(op) = read(def, &attrs, count) else { continue };
            let common = [DType::F32, DType::F32, DType::I64, DType::F64, DType::F16][random.usize(..5)];
            let shape: Vec<usize> = (0..random.usize(1..5)).map(|_| [0, 1, 2, 2, 3, 4][random.usize(..6)]).collect();
            let operand = |index: usize| {
                let absent = index > 0 && random.u8(..8) == 0;
                let tensor = tensor(&mut random, common, &shape, tame);
                (!absent).then_some(tensor)
            };
            let tensors = (0..count).map(operand).collect();
            let case = Case { op, tensors, outputs: (*def.outputs.start()).max(1) };
            if !meet(&mut random, &case) {
                break;
            }
        }
    }
}

/// How many cases each operator meets: `ONRUSH_WILD_CASES`, or `usual`.
pub(super) fn cases(usual: usize) -> usize {
    std::env::var("ONRUSH_WILD_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

/// Attributes that operators have, each with values from sane to wild.
fn attribute_pool() -> Vec<(&'static str, Vec<Attr>)> {
    let ints = |names: &[&'static str], values: &[i64]| -> Vec<(&'static str, Vec<Attr>)> {
        names.iter().map(|name| (*name, values.iter().map(|&v| Attr::Int(v)).collect())).collect()
    };
    let lists = |names: &[&'static str], values: &[&[i64]]| -> Vec<(&'static str, Vec<Attr>)> {
        names.iter().map(|name| (*name, values.iter().map(|v| Attr::Ints(v.to_vec())).collect())).collect()
    };
    let wild = [-2, -1, 0, 1, 2, 3, 1 << 40, i64::MAX, i64::MIN];
    let mut pool = ints(&["axis", "k", "start", "end", "batch_dims", "blocksize", "num_outputs"], &wild);
    pool.extend(ints(&["block_size", "num_groups", "group", "hidden_size", "sample_size", "sampling_ratio"], &wild));
    pool.extend(ints(&["output_height", "output_width", "size", "p", "batch_axis", "time_axis", "num_heads"], &wild));
    pool.extend(ints(&["kv_num_heads", "q_num_heads", "rotary_embedding_dim", "storage_order"], &wild));
    pool.extend(ints(&["allowzero", "upper", "keepdims", "ceil_mode", "onesided", "inverse", "transA"], &[0, 1]));
    pool.extend(ints(&["center_point_box", "align_corners", "antialias", "exclude_outside", "interleaved"], &[0, 1]));
    pool.extend(ints(&["noop_with_empty_axes", "select_last_index", "exclusive", "reverse", "largest"], &[0, 1]));
    pool.extend(ints(&["dtype", "to", "output_datatype", "output_dtype"], &[1, 7, 9, 10, 3, 99]));
    let shapes: [&[i64]; 7] = [&[], &[1], &[2, 2], &[1, 1], &[0, 3], &[1 << 40, 1 << 40], &[-1, i64::MAX, i64::MIN, 1]];
    pool.extend(lists(&["axes", "perm", "kernel_shape", "strides", "dilations", "pads", "output_shape"], &shapes));
    pool.extend(lists(&["output_padding", "shape", "starts", "ends", "split"], &shapes));
    let modes = ["reflect", "edge", "wrap", "linear", "cubic", "nearest", "CRD", "max", "circular", "add", "min"];
    pool.push(("mode", modes.iter().map(|v| Attr::Str((*v).into())).collect()));
    pool.push(("reduction", modes.iter().map(|v| Attr::Str((*v).into())).collect()));
    let padding = ["SAME_UPPER", "SAME_LOWER", "VALID"];
    pool.push(("auto_pad", padding.iter().map(|v| Attr::Str((*v).into())).collect()));
    let policies = ["not_larger", "not_smaller"];
    pool.push(("keep_aspect_ratio_policy", policies.iter().map(|v| Attr::Str((*v).into())).collect()));
    let coordinates = ["align_corners", "asymmetric", "tf_crop_and_resize", "half_pixel_symmetric"];
    pool.push(("coordinate_transformation_mode", coordinates.iter().map(|v| Attr::Str((*v).into())).collect()));
    pool
}

fn read(def: &OpDef, attrs: &[(&str, Attr)], inputs: usize) -> Option<Arc<dyn Op>> {
    let attrs: BTreeMap<String, Attr> = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let outputs = (*def.outputs.start()).max(1).min(*def.outputs.end());
    let mut node = NodeReader::new(def.name, def.opset, attrs, vec![true; inputs], outputs, 0);
    let reading = (def.read)(&mut node).ok()?;
    node.finish().ok()?;
    match reading {
        Reading::Op(op) => Some(op),
        Reading::Nodes(_) => None,
    }
}

/// A small tensor; the inputs of a node often have a dtype or a shape in common, or are lists of integers.
fn tensor(random: &mut fastrand::Rng, common: DType, shape: &[usize], tame: bool) -> Tensor {
    let dtypes = [common, common, DType::I64, DType::I64, DType::I32, DType::Bool, DType::U8, DType::F32];
    let dtype = dtypes[random.usize(..dtypes.len())];
    let shape: Vec<usize> = match random.usize(..6) {
        0 => vec![[0, 1, 2, 4][random.usize(..4)]],
        1 => vec![],
        2 | 3 => shape.to_vec(),
        4 => vec![shape.len()],
        _ => (0..random.usize(1..5)).map(|_| [0, 1, 2, 2, 3, 4][random.usize(..6)]).collect(),
    };
    let len = shape.iter().product();
    let wild = [0.0, 1.0, 2.0, -1.0, 3.0, 1e12, f64::MAX, f64::MIN, f64::NAN, 0.5];
    let tame = tame || random.bool();
    let values = (0..len).map(|_| if tame { random.i8(-2..4).into() } else { wild[random.usize(..wild.len())] });
    let values: Vec<f64> = values.collect();
    crate::ops::numeric::from_f64(dtype, shape, values).expect("a small tensor")
}
