//! Bytes that are no protobuf, or too much of it.

use super::support::*;
use super::{refused, refused_with};
use onrush::ErrorKind::{Limit, Malformed};
use onrush::onnx::{LoadLimits, LoadOptions};

#[test]
fn an_empty_file() {
    refused(&[], Malformed, &["empty"]);
}

#[test]
fn bytes_without_a_graph() {
    refused(&header(17).0, Malformed, &["no graph"]);
    refused(b"PK\x03\x04 this is a zip archive", Malformed, &[]);
}

#[test]
fn lengths_past_the_end() {
    let graph = Message::new().bytes(1, &[0x0a, 200, 1]);
    refused(&header(17).message(7, &graph).0, Malformed, &["graph[0].node[0]", "200 bytes", "truncated"]);
    refused(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Malformed, &["truncated"]);
}

#[test]
fn over_long_varints() {
    refused(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Malformed, &["64 bits"]);
    refused(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Malformed, &["64 bits"]);
    refused(&[0x08, 0x80], Malformed, &["within a number"]);
}

#[test]
fn wrong_wire_types() {
    refused(&Message::new().int(7, 1).0, Malformed, &["graph", "wire type 0"]);
    let node = Message::new().int(4, 1);
    let graph = Message::new().message(1, &node);
    refused(&header(17).message(7, &graph).0, Malformed, &["op_type"]);
    refused(&header(17).message(7, &Message::new().message(1, &Message(vec![0x0e]))).0, Malformed, &["wire type 6"]);
    refused(&[0x00, 0x00], Malformed, &["field number"]);
}

#[test]
fn groups_however_deep() {
    for field in [7u64, 99] {
        let mut bytes = header(17).0;
        (0..100_000).for_each(|_| bytes.extend(varint(field << 3 | 3)));
        refused(&bytes, Malformed, &["group"]);
        let inner = Message(varint(field << 3 | 3).repeat(100_000));
        refused(&header(17).message(8, &inner).0, Malformed, &["group"]);
    }
}

#[test]
fn types_within_types() {
    let mut r#type = Message::new();
    for _ in 0..2_000 {
        r#type = Message::new().message(4, &Message::new().message(1, &r#type));
    }
    let input = Message::new().text(1, "x").message(2, &r#type);
    let graph = Message::new().message(11, &input).message(12, &value("x", F32, &[2]));
    refused(&header(17).message(7, &graph).0, onrush::ErrorKind::Unsupported, &["input \"x\"", "sequence"]);
}

#[test]
fn a_million_tiny_nodes() {
    let graph = Message([0x0a, 0].repeat(1_000_000));
    refused(&header(17).message(7, &graph).0, Limit, &["max_nodes", "graph[0].node[250000]"]);
}

#[test]
fn millions_of_other_empty_things() {
    let nodes = LoadOptions::default().limits(LoadLimits::default().max_nodes(10_000));
    for key in [[0x2a, 0], [0x5a, 0], [0x62, 0], [0x7a, 1]] {
        let graph = if key[1] == 0 { key.to_vec() } else { vec![0x7a, 0] };
        let graph = Message(graph.repeat(1_000_000));
        refused_with(&header(17).message(7, &graph).0, &nodes, Limit, &["graph[0]", "messages and names"]);
    }
    let node = Message([0x0a, 0].repeat(1_000_000));
    let graph = Message::new().message(1, &node);
    refused_with(&header(17).message(7, &graph).0, &nodes, Limit, &["graph[0].node[0]", "messages and names"]);
}

#[test]
fn numbers_that_decode_to_more_than_they_are() {
    let limits = LoadOptions::default().limits(LoadLimits::default().max_tensor_bytes(1 << 20));
    let tensor = dims("w", I64, &[1 << 20]).bytes(7, &vec![0; 1 << 20]);
    let graph = Graph { initializers: vec![tensor], ..Graph::default() };
    refused_with(&graph.model(17).0, &limits, Limit, &["graph[0].initializer[0]", "max_tensor_bytes"]);
}

#[test]
fn a_file_over_its_limit() {
    let options = LoadOptions::default().limits(LoadLimits::default().max_file_bytes(10));
    refused_with(&[0; 11], &options, Limit, &["11 bytes", "max_file_bytes"]);
    let error = onrush::onnx::import_reader(std::io::repeat(0), &options).unwrap_err();
    assert_eq!(error.kind(), Limit);
}

#[test]
fn text_that_is_no_text() {
    let bad = [0xff, 0xfe];
    let name = Message::new().message(1, &Message::new().bytes(4, &bad));
    refused(&header(17).message(7, &name).0, Malformed, &["op_type", "UTF-8"]);
    let attribute = Message::new().text(1, "mode").int(20, 3).bytes(4, &bad);
    let graph = between(vec![node("Relu", &["x"], &["y"], &[attribute])], vec![]);
    refused(&graph.model(17).0, Malformed, &["y_node", "attribute \"mode\"", "UTF-8"]);
}
