//! ONNX models made byte by byte, so that a test can also make what no writer would.
#![allow(dead_code)]

/// The bytes of a protobuf message, field after field.
#[derive(Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

/// A number as protobuf writes it.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

impl Message {
    pub(crate) fn new() -> Self {
        Message::default()
    }

    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.0.extend(varint(field << 3));
        self.0.extend(varint(value as u64));
        self
    }

    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.0.extend(varint(field << 3 | 5));
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.0.extend(varint(field << 3 | 2));
        self.0.extend(varint(bytes.len() as u64));
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(crate) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    pub(crate) fn messages(self, field: u64, messages: impl IntoIterator<Item = Message>) -> Self {
        messages.into_iter().fold(self, |all, one| all.message(field, &one))
    }
}

pub(crate) const F32: i64 = 1;
pub(crate) const U8: i64 = 2;
pub(crate) const I64: i64 = 7;
pub(crate) const BOOL: i64 = 9;

/// `NodeProto`, named after its first output.
pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    let mut node = Message::new();
    for input in inputs {
        node = node.text(1, input);
    }
    for output in outputs {
        node = node.text(2, output);
    }
    let name = outputs.first().copied().unwrap_or(op);
    node.text(3, &format!("{name}_node")).text(4, op).messages(5, attributes.to_vec())
}

/// An attribute that is an integer.
pub(crate) fn int(name: &str, value: i64) -> Message {
    Message::new().text(1, name).int(20, 2).int(3, value)
}

/// An attribute that is a list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> Message {
    values.iter().fold(Message::new().text(1, name).int(20, 7), |a, v| a.int(8, *v))
}

/// An attribute that is a string.
pub(crate) fn text(name: &str, value: &str) -> Message {
    Message::new().text(1, name).int(20, 3).text(4, value)
}

/// An attribute that is a graph.
pub(crate) fn body(name: &str, graph: &Message) -> Message {
    Message::new().text(1, name).int(20, 5).message(6, graph)
}

/// `TensorProto` without data.
pub(crate) fn dims(name: &str, dtype: i64, dims: &[i64]) -> Message {
    dims.iter().fold(Message::new(), |t, d| t.int(1, *d)).int(2, dtype).text(8, name)
}

/// `TensorProto` with raw data.
pub(crate) fn raw(name: &str, dtype: i64, shape: &[i64], data: &[u8]) -> Message {
    dims(name, dtype, shape).bytes(9, data)
}

/// A vector of integers.
pub(crate) fn integers(name: &str, values: &[i64]) -> Message {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw(name, I64, &[values.len() as i64], &data)
}

/// A tensor of floats.
pub(crate) fn floats(name: &str, shape: &[i64], values: &[f32]) -> Message {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw(name, F32, shape, &data)
}

/// `ValueInfoProto` of a tensor; a negative length is written as it is.
pub(crate) fn value(name: &str, dtype: i64, shape: &[i64]) -> Message {
    let shape = shape.iter().fold(Message::new(), |s, d| s.message(1, &Message::new().int(1, *d)));
    let tensor = Message::new().int(1, dtype).message(2, &shape);
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}

/// `ValueInfoProto` of a tensor of any shape.
pub(crate) fn unshaped(name: &str, dtype: i64) -> Message {
    Message::new().text(1, name).message(2, &Message::new().message(1, &Message::new().int(1, dtype)))
}

/// The parts of a `GraphProto`.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Message>,
    pub(crate) initializers: Vec<Message>,
    pub(crate) inputs: Vec<Message>,
    pub(crate) outputs: Vec<Message>,
}

impl Graph {
    pub(crate) fn message(&self) -> Message {
        Message::new()
            .messages(1, self.nodes.clone())
            .text(2, "made in code")
            .messages(5, self.initializers.clone())
            .messages(11, self.inputs.clone())
            .messages(12, self.outputs.clone())
    }

    /// The whole model at this opset; the graph stands last.
    pub(crate) fn model(&self, opset: i64) -> Message {
        header(opset).message(7, &self.message())
    }
}

/// A `ModelProto` that has everything but its graph.
pub(crate) fn header(opset: i64) -> Message {
    Message::new().int(1, 8).message(8, &Message::new().text(1, "").int(2, opset))
}

/// `x -> nodes -> y` on floats of shape `[2]`.
pub(crate) fn between(nodes: Vec<Message>, initializers: Vec<Message>) -> Graph {
    Graph { nodes, initializers, inputs: vec![value("x", F32, &[2])], outputs: vec![unshaped("y", F32)] }
}
