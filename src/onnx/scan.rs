//! A walk over the bytes of a model before anything is decoded: the wire format checked, messages and nesting counted.
//!
//! A decoder allocates as it goes, so a few megabytes of empty messages would become gigabytes of structs. This walk
//! allocates nothing in proportion to the file, knows where in the model it is, and skips over the weights.

use super::limits::LoadLimits;
use crate::error::{Error, Result, err};

/// The messages that are walked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Function,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message without messages in it.
    Flat,
}

/// What a known field holds.
enum Field {
    Message(&'static str, Kind),
    /// A string, or bytes: counted, because each becomes an allocation.
    Text,
    /// Numbers of a tensor that take eight bytes each once decoded, however short they are written.
    Varints,
    Other,
}

fn field(kind: Kind, number: u64) -> Field {
    use Field::{Message, Text, Varints};
    match (kind, number) {
        (Kind::Model, 7) => Message("graph", Kind::Graph),
        (Kind::Model, 8) => Message("opset_import", Kind::Flat),
        (Kind::Model, 14) => Message("metadata_props", Kind::Flat),
        (Kind::Model, 25) => Message("functions", Kind::Function),
        (Kind::Graph, 1) => Message("node", Kind::Node),
        (Kind::Graph, 5) => Message("initializer", Kind::Tensor),
        (Kind::Graph, 11) => Message("input", Kind::ValueInfo),
        (Kind::Graph, 12) => Message("output", Kind::ValueInfo),
        (Kind::Graph, 13) => Message("value_info", Kind::ValueInfo),
        (Kind::Graph, 15) => Message("sparse_initializer", Kind::Sparse),
        (Kind::Graph, 16) => Message("metadata_props", Kind::Flat),
        (Kind::Node, 1 | 2) => Text,
        (Kind::Node, 5) => Message("attribute", Kind::Attribute),
        (Kind::Node, 9) => Message("metadata_props", Kind::Flat),
        (Kind::Attribute, 5) => Message("t", Kind::Tensor),
        (Kind::Attribute, 6) => Message("g", Kind::Graph),
        (Kind::Attribute, 9) => Text,
        (Kind::Attribute, 22) => Message("sparse_tensor", Kind::Sparse),
        (Kind::Tensor, 5 | 7 | 11) => Varints,
        (Kind::Tensor, 6) => Text,
        (Kind::Tensor, 13) => Message("external_data", Kind::Flat),
        (Kind::Tensor, 16) => Message("metadata_props", Kind::Flat),
        (Kind::Sparse, 1) => Message("values", Kind::Tensor),
        (Kind::Sparse, 2) => Message("indices", Kind::Tensor),
        (Kind::Function, 4..=6) => Text,
        (Kind::Function, 7) => Message("node", Kind::Node),
        (Kind::Function, 9) => Message("opset_import", Kind::Flat),
        (Kind::Function, 11) => Message("attribute_proto", Kind::Attribute),
        (Kind::ValueInfo, 2) => Message("type", Kind::Type),
        (Kind::ValueInfo, 4) => Message("metadata_props", Kind::Flat),
        (Kind::Type, 1) => Message("tensor_type", Kind::TensorType),
        (Kind::TensorType, 2) => Message("shape", Kind::Shape),
        (Kind::Shape, 1) => Message("dim", Kind::Flat),
        _ => Field::Other,
    }
}

/// Checks the wire format of a `ModelProto` and that it keeps the limits.
pub(super) fn scan(bytes: &[u8], limits: &LoadLimits) -> Result<()> {
    let mut scan = Scan { limits, nodes: 0, bodies: 0, items: 0, decoded: 0, path: Vec::new() };
    scan.message(bytes, Kind::Model, 0).map_err(|e| match scan.place() {
        Some(place) => e.at(place),
        None => e,
    })
}

struct Scan<'l> {
    limits: &'l LoadLimits,
    nodes: usize,
    bodies: usize,
    items: usize,
    decoded: usize,
    path: Vec<(&'static str, usize)>,
}

impl Scan<'_> {
    fn place(&self) -> Option<String> {
        if self.path.is_empty() {
            return None;
        }
        let parts: Vec<String> = self.path.iter().map(|(name, index)| format!("{name}[{index}]")).collect();
        Some(parts.join("."))
    }

    /// One message. On an error the path stays where it was, to name the place.
    fn message(&mut self, bytes: &[u8], kind: Kind, depth: usize) -> Result<()> {
        let mut reader = Reader { bytes, position: 0 };
        let mut counts = [0usize; 32];
        while !reader.is_at_end() {
            let key = reader.varint()?;
            let (number, wire) = (key >> 3, key & 7);
            if number == 0 || number > (1 << 29) - 1 {
                return Err(err!(Malformed, "{number} is no field number"));
            }
            let field = field(kind, number);
            match wire {
                0 => {
                    reader.varint()?;
                }
                1 => {
                    reader.take(8)?;
                }
                5 => {
                    reader.take(4)?;
                }
                2 => {
                    let length = reader.varint()?;
                    let payload = reader.take(length)?;
                    match field {
                        Field::Message(name, child) => {
                            let count = &mut counts[number as usize & 31];
                            self.path.push((name, *count));
                            *count += 1;
                            self.child(payload, child, kind, depth)?;
                            self.path.pop();
                        }
                        Field::Text => self.item()?,
                        Field::Varints => self.varints(payload)?,
                        Field::Other => {}
                    }
                    continue;
                }
                3 | 4 => return Err(err!(Malformed, "field {number} is a group, which ONNX does not use")),
                _ => return Err(err!(Malformed, "field {number} has the wire type {wire}, which does not exist")),
            }
            if let Field::Message(name, _) = field {
                return Err(err!(Malformed, "{name} has the wire type {wire} and should be a message"));
            }
        }
        Ok(())
    }

    fn child(&mut self, payload: &[u8], kind: Kind, parent: Kind, depth: usize) -> Result<()> {
        self.item()?;
        let mut depth = depth;
        if kind == Kind::Node {
            self.nodes += 1;
            if self.nodes > self.limits.max_nodes {
                return Err(err!(Limit, "more than {} nodes (max_nodes)", self.limits.max_nodes));
            }
        }
        if kind == Kind::Graph && parent == Kind::Attribute {
            depth += 1;
            self.bodies += 1;
            if self.bodies > self.limits.max_bodies {
                return Err(err!(Limit, "more than {} bodies (max_bodies)", self.limits.max_bodies));
            }
            if depth > self.limits.max_depth {
                return Err(err!(Limit, "bodies nest deeper than {} (max_depth)", self.limits.max_depth));
            }
        }
        self.message(payload, kind, depth)
    }

    fn item(&mut self) -> Result<()> {
        self.items += 1;
        let most = self.limits.max_items();
        if self.items > most {
            return Err(err!(Limit, "more than {most} messages and names (32 for each of max_nodes)"));
        }
        Ok(())
    }

    fn varints(&mut self, payload: &[u8]) -> Result<()> {
        let count = payload.iter().filter(|&&b| b < 0x80).count();
        self.decoded = self.decoded.saturating_add(count.saturating_mul(8));
        if self.decoded > self.limits.max_tensor_bytes {
            return Err(err!(
                Limit,
                "constants decode to more than {} bytes (max_tensor_bytes)",
                self.limits.max_tensor_bytes
            ));
        }
        Ok(())
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    position: usize,
}

impl<'b> Reader<'b> {
    fn is_at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in 0..10 {
            let Some(&byte) = self.bytes.get(self.position) else { return Err(self.truncated()) };
            self.position += 1;
            if shift == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(err!(Malformed, "a varint of more than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8]> {
        let end = usize::try_from(length).ok().and_then(|n| self.position.checked_add(n));
        match end.and_then(|end| self.bytes.get(self.position..end).map(|taken| (end, taken))) {
            Some((end, taken)) => {
                self.position = end;
                Ok(taken)
            }
            None => Err(err!(
                Malformed,
                "a field of {length} bytes, {} are left; is the file truncated?",
                self.bytes.len() - self.position
            )),
        }
    }

    fn truncated(&self) -> Error {
        err!(Malformed, "the bytes end within a number; is the file truncated?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn nested(levels: usize) -> Vec<u8> {
        // graph { node { attribute { g { node .. } } } }: keys 0x0a, 0x2a, 0x32.
        let mut inner: Vec<u8> = Vec::new();
        let wrap = |key: u8, inner: Vec<u8>| {
            let mut out = vec![key];
            prost::encoding::encode_varint(inner.len() as u64, &mut out);
            out.extend(inner);
            out
        };
        for _ in 0..levels {
            inner = wrap(0x0a, wrap(0x2a, wrap(0x32, inner)));
        }
        wrap(0x3a, inner)
    }

    #[test]
    fn the_place_is_a_path() {
        let error = scan(&[0x3a, 2, 0x0a, 5], &LoadLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.place().unwrap(), "graph[0]");
    }

    #[test]
    fn nesting_is_limited() {
        let limits = LoadLimits::default().max_depth(3);
        assert!(scan(&nested(3), &limits).is_ok());
        assert_eq!(scan(&nested(4), &limits).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(scan(&nested(5_000), &LoadLimits::default()).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn wire_faults_are_named() {
        let cases: [(&[u8], &str); 6] = [
            (&[0x3b], "group"),
            (&[0x3e], "wire type 6"),
            (&[0x38, 1], "should be a message"),
            (&[0x00, 1], "no field number"),
            (&[0xff; 11], "more than 64 bits"),
            (&[0x3a, 0x80], "within a number"),
        ];
        for (bytes, says) in cases {
            let error = scan(bytes, &LoadLimits::default()).unwrap_err();
            assert!(error.kind() == ErrorKind::Malformed && error.to_string().contains(says), "{error}");
        }
    }
}
