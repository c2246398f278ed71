//! Tensors that contradict themselves.

use super::refused;
use super::support::*;
use onrush::ErrorKind::{self, InvalidModel, Limit, Malformed, Unsupported};

/// The same tensor as an initializer and as the value of a `Constant`.
#[track_caller]
fn refused_tensor(tensor: &Message, kind: ErrorKind, says: &[&str]) {
    let graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![tensor.clone()]);
    let says: Vec<&str> = says.iter().chain(&["tensor \"w\""]).copied().collect();
    refused(&graph.model(17).0, kind, &[&says[..], &["initializer"]].concat());
    let value = Message::new().text(1, "value").int(20, 4).message(5, tensor);
    let constant = node("Constant", &[], &["w"], &[value]);
    let graph = between(vec![constant, node("Add", &["x", "w"], &["y"], &[])], vec![]);
    refused(&graph.model(17).0, kind, &[&says[..], &["node \"w_node\" (Constant)", "attribute \"value\""]].concat());
}

#[test]
fn lengths_of_axes() {
    refused_tensor(&floats("w", &[-2], &[1.0, 2.0]), Malformed, &["dims[0] is -2"]);
    refused_tensor(&floats("w", &[i64::MIN], &[1.0]), Malformed, &["dims[0]"]);
    refused_tensor(&floats("w", &[i64::MAX, i64::MAX], &[1.0]), Limit, &["dims"]);
    refused_tensor(&floats("w", &[1 << 62, 1 << 62, 0], &[1.0]), Limit, &["dims"]);
    refused_tensor(&floats("w", &[1 << 40, 0], &[1.0]), Malformed, &["raw_data"]);
    refused_tensor(&floats("w", &[1 << 40], &[1.0]), Limit, &["max_tensor_bytes"]);
    refused_tensor(&dims("w", F32, &[1 << 31]), Malformed, &["no data"]);
}

#[test]
fn data_that_do_not_fit() {
    refused_tensor(&floats("w", &[3], &[1.0, 2.0]), Malformed, &["raw_data: 8 bytes, not the 12"]);
    refused_tensor(&floats("w", &[1], &[1.0, 2.0]), Malformed, &["raw_data: 8 bytes, not the 4"]);
    refused_tensor(&raw("w", F32, &[1], &[0; 3]), Malformed, &["raw_data"]);
    let typed = |count: usize| dims("w", F32, &[2]).bytes(4, &vec![0; 4 * count]);
    refused_tensor(&typed(1), Malformed, &["1 elements, not the 2"]);
    refused_tensor(&typed(3), Malformed, &["3 elements, not the 2"]);
    refused_tensor(&floats("w", &[2], &[1.0, 2.0]).bytes(4, &[0; 8]), Malformed, &["both raw_data and float_data"]);
    refused_tensor(&typed(2).bytes(5, &[1, 1]), Malformed, &["int32_data in a tensor of f32"]);
}

#[test]
fn dtypes_that_are_none() {
    refused_tensor(&dims("w", 0, &[2]), InvalidModel, &["data_type"]);
    refused_tensor(&dims("w", 77, &[2]), InvalidModel, &["data_type", "77"]);
    refused_tensor(&dims("w", -1, &[2]), InvalidModel, &["data_type"]);
    refused_tensor(&dims("w", 8, &[2]), Unsupported, &["strings"]);
    refused_tensor(&dims("w", 14, &[2]), Unsupported, &["data_type"]);
}

#[test]
fn bools_that_are_neither() {
    refused_tensor(&raw("w", BOOL, &[2], &[1, 2]), Malformed, &["raw_data", "neither 0 nor 1"]);
    refused_tensor(&dims("w", BOOL, &[2]).bytes(5, &[1, 2]), Malformed, &["int32_data", "2 is no value"]);
}

#[test]
fn external_data_when_loading_from_bytes() {
    let entry = Message::new().text(1, "location").text(2, "weights.bin");
    refused_tensor(&dims("w", F32, &[2]).message(13, &entry).int(14, 1), Unsupported, &["from a path"]);
}

#[test]
fn sparse_indices() {
    let sparse = |indices: &Message, shape: &[i64]| {
        let values = floats("w", &[2], &[1.0, 2.0]);
        let sparse = Message::new().message(1, &values).message(2, indices);
        let sparse = shape.iter().fold(sparse, |s, d| s.int(3, *d));
        let graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![]);
        header(17).message(7, &graph.message().message(15, &sparse)).0
    };
    let place = ["sparse_initializer", "tensor \"w\"", "indices"];
    for indices in [&[0, 4], &[-1, 2], &[2, 1], &[1, 1]] {
        refused(&sparse(&integers("i", indices), &[4]), Malformed, &place);
    }
    refused(&sparse(&integers("i", &[0, 1, 2]), &[4]), Malformed, &place);
    let pairs = |row: [i64; 4]| {
        let data: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
        raw("i", I64, &[2, 2], &data)
    };
    refused(&sparse(&pairs([0, 0, 1, 2]), &[2, 2]), Malformed, &place);
    refused(&sparse(&pairs([0, 0, 0, -1]), &[2, 2]), Malformed, &place);
    refused(&sparse(&integers("i", &[0, 1]), &[1 << 60]), Limit, &["tensor \"w\""]);
    refused(&sparse(&integers("i", &[0, 1]), &[-4]), Malformed, &["dims[0]"]);
    assert!(onrush::onnx::import(sparse(&pairs([0, 0, 1, 1]), &[2, 2]).into(), &Default::default()).is_ok());
}
