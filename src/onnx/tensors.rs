//! `TensorProto` to tensor and back: every length, dtype and data field checked before anything is allocated.

use super::external::Folder;
use super::proto::TensorProto;
use crate::error::{At, Result, bail, ensure, err};
use crate::ops::reader::{dtype_from_onnx, dtype_to_onnx};
use crate::tensor::{DType, Element, Shape, Tensor};
use bytes::Bytes;
use half::{bf16, f16};
use prost::Message;
use std::cell::Cell;

/// Reads the tensors of one model, and counts their bytes against the limit.
pub(super) struct TensorSource<'f> {
    folder: Option<&'f Folder>,
    bytes_left: Cell<usize>,
    max_bytes: usize,
}

impl<'f> TensorSource<'f> {
    /// External data is looked up in `folder`, and refused without one.
    pub(super) fn new(max_bytes: usize, folder: Option<&'f Folder>) -> Self {
        TensorSource { folder, bytes_left: Cell::new(max_bytes), max_bytes }
    }

    /// Takes `bytes` from what constants may still use.
    pub(super) fn admit(&self, bytes: usize) -> Result<()> {
        let Some(left) = self.bytes_left.get().checked_sub(bytes) else {
            bail!(
                Limit,
                "{bytes} bytes of constants are asked for, {} of {} are left (max_tensor_bytes)",
                self.bytes_left.get(),
                self.max_bytes
            );
        };
        self.bytes_left.set(left);
        Ok(())
    }

    /// The tensor; its place in an error is its name.
    pub(super) fn read(&self, proto: &TensorProto) -> Result<Tensor> {
        self.read_unnamed(proto).at(|| format!("tensor {:?}", proto.name))
    }

    fn read_unnamed(&self, proto: &TensorProto) -> Result<Tensor> {
        ensure!(proto.data_type != 0, InvalidModel, "data_type is missing");
        let dtype = dtype_from_onnx(i64::from(proto.data_type)).at(|| "data_type".into())?;
        let shape = lengths(&proto.dims)?;
        let len = shape.checked_len().at(|| "dims".into())?;
        ensure!(proto.segment.is_none(), Unsupported, "segmented tensors are not supported");
        let bytes = len.saturating_mul(dtype.size());
        self.admit(bytes)?;
        let field = the_data_field(proto, dtype)?;
        let tensor = match field {
            Field::External => {
                let Some(folder) = self.folder else {
                    bail!(Unsupported, "external data is read only for a model that is loaded from a path");
                };
                let data = folder.read(&proto.external_data, bytes).at(|| "external_data".into())?;
                return Tensor::from_file(dtype, shape, data).at(|| "external_data".into());
            }
            Field::Raw(data) => {
                ensure!(
                    data.len() == bytes,
                    Malformed,
                    "raw_data: {} bytes, not the {bytes} of {dtype}{shape}",
                    data.len()
                );
                return Tensor::from_file(dtype, shape, data).at(|| "raw_data".into());
            }
            Field::None if len == 0 => Tensor::zeros(dtype, shape.clone())?,
            Field::None => bail!(Malformed, "no data for {dtype}{shape}"),
            Field::Floats => Tensor::vector(proto.float_data.clone()),
            Field::Doubles => Tensor::vector(proto.double_data.clone()),
            Field::Int64s => Tensor::vector(proto.int64_data.clone()),
            Field::Int32s => from_int32(dtype, &proto.int32_data).at(|| "int32_data".into())?,
            Field::Uint64s if dtype == DType::U64 => Tensor::vector(proto.uint64_data.clone()),
            Field::Uint64s => narrow(&proto.uint64_data, |v| u32::try_from(v).ok()).at(|| "uint64_data".into())?,
        };
        ensure!(tensor.len() == len, Malformed, "{} elements, not the {len} of {dtype}{shape}", tensor.len());
        tensor.reshaped(shape)
    }
}

/// No tensor in a file has more.
pub(super) const MOST_AXES: usize = 256;

/// The lengths of a `dims` field.
pub(super) fn lengths(dims: &[i64]) -> Result<Shape> {
    ensure!(dims.len() <= MOST_AXES, Limit, "{} axes; at most {MOST_AXES} are read", dims.len());
    dims.iter()
        .enumerate()
        .map(|(axis, &d)| usize::try_from(d).map_err(|_| err!(Malformed, "dims[{axis}] is {d}")))
        .collect()
}

enum Field {
    None,
    Raw(Bytes),
    External,
    Floats,
    Doubles,
    Int32s,
    Int64s,
    Uint64s,
}

/// The one field that holds the data, which must be the one that ONNX gives the dtype.
fn the_data_field(proto: &TensorProto, dtype: DType) -> Result<Field> {
    ensure!(proto.string_data.is_empty(), InvalidModel, "string_data in a tensor of {dtype}");
    ensure!(matches!(proto.data_location, 0 | 1), InvalidModel, "data_location is {}", proto.data_location);
    let mut found: Vec<(&str, Field)> = Vec::new();
    if let Some(raw) = &proto.raw_data {
        // An empty field beside another one holds nothing; some writers leave it.
        if !raw.is_empty() {
            found.push(("raw_data", Field::Raw(raw.clone())));
        }
    }
    if proto.data_location == 1 {
        found.push(("external_data", Field::External));
    }
    let typed = [
        ("float_data", proto.float_data.len(), Field::Floats),
        ("int32_data", proto.int32_data.len(), Field::Int32s),
        ("int64_data", proto.int64_data.len(), Field::Int64s),
        ("double_data", proto.double_data.len(), Field::Doubles),
        ("uint64_data", proto.uint64_data.len(), Field::Uint64s),
    ];
    let home = match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::U32 | DType::U64 => "uint64_data",
        _ => "int32_data",
    };
    for (name, len, field) in typed {
        if len > 0 {
            ensure!(name == home, Malformed, "{name} in a tensor of {dtype}, whose data belong in {home}");
            found.push((name, field));
        }
    }
    ensure!(found.len() <= 1, Malformed, "data in both {} and {}", found[0].0, found[1].0);
    Ok(found.pop().map_or(Field::None, |(_, field)| field))
}

/// Elements of up to 16 bits, and 32-bit integers, each in an `int32`; half floats as their bits.
fn from_int32(dtype: DType, data: &[i32]) -> Result<Tensor> {
    match dtype {
        DType::I32 => Ok(Tensor::vector(data.to_vec())),
        DType::I16 => narrow(data, |v| i16::try_from(v).ok()),
        DType::U16 => narrow(data, |v| u16::try_from(v).ok()),
        DType::I8 => narrow(data, |v| i8::try_from(v).ok()),
        DType::U8 => narrow(data, |v| u8::try_from(v).ok()),
        DType::F16 => narrow(data, |v| u16::try_from(v).ok().map(f16::from_bits)),
        DType::BF16 => narrow(data, |v| u16::try_from(v).ok().map(bf16::from_bits)),
        DType::Bool => narrow(data, |v| match v {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }),
        _ => bail!(Internal, "{dtype} does not live in int32_data"),
    }
}

fn narrow<S: Copy + std::fmt::Display, T: Element>(data: &[S], convert: impl Fn(S) -> Option<T>) -> Result<Tensor> {
    let elements: Result<Vec<T>> = data
        .iter()
        .map(|&v| convert(v).ok_or_else(|| err!(Malformed, "{v} is no value of the dtype {}", T::DTYPE)))
        .collect();
    Ok(Tensor::vector(elements?))
}

/// The tensor as a message, its elements as raw bytes.
pub(super) fn to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: dtype_to_onnx(tensor.dtype()) as i32,
        name: name.to_owned(),
        raw_data: Some(Bytes::copy_from_slice(tensor.as_bytes())),
        ..TensorProto::default()
    }
}

/// Reads a file that holds one `TensorProto`: its name and the tensor.
///
/// # Errors
/// [`Malformed`](crate::ErrorKind::Malformed) when the bytes are no such message or its data do not fit its dims,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for strings, for dtypes outside [`DType`] and for external data.
pub fn read_tensor(bytes: &[u8]) -> Result<(String, Tensor)> {
    let proto = TensorProto::decode(Bytes::copy_from_slice(bytes))
        .map_err(|e| err!(Malformed, "no TensorProto: {e}").with_source(e))?;
    let tensor = TensorSource::new(usize::MAX, None).read(&proto)?;
    Ok((proto.name, tensor))
}

/// The bytes of a file that holds one `TensorProto`, as [`read_tensor`] reads it.
///
/// ```
/// use onrush::{Tensor, onnx};
/// let bytes = onnx::write_tensor("x", &Tensor::vector(vec![1.0f32, 2.0]));
/// assert_eq!(onnx::read_tensor(&bytes)?, ("x".to_owned(), Tensor::vector(vec![1.0f32, 2.0])));
/// # Ok::<(), onrush::Error>(())
/// ```
#[must_use]
pub fn write_tensor(name: &str, tensor: &Tensor) -> Vec<u8> {
    to_proto(name, tensor).encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn read(proto: &TensorProto) -> Result<Tensor> {
        TensorSource::new(1 << 20, None).read(proto)
    }

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), name: "w".into(), ..TensorProto::default() }
    }

    #[test]
    fn every_dtype_survives_the_round_trip() {
        for dtype in DType::ALL {
            let tensor = Tensor::vector(vec![0i64, 1]).cast(dtype).unwrap().reshaped([1, 2]).unwrap();
            assert_eq!(read_tensor(&write_tensor("t", &tensor)).unwrap(), ("t".to_owned(), tensor));
        }
    }

    #[test]
    fn typed_fields_hold_the_dtypes_that_onnx_puts_there() {
        for data_type in [2, 3, 4, 5, 6, 9] {
            let tensor = read(&TensorProto { int32_data: vec![0, 1], ..proto(data_type, &[2]) }).unwrap();
            assert_eq!(tensor.to_i64_vec().unwrap(), [0, 1]);
        }
        for data_type in [12, 13] {
            let tensor = read(&TensorProto { uint64_data: vec![7], ..proto(data_type, &[]) }).unwrap();
            assert_eq!((tensor.rank(), tensor.to_i64_vec().unwrap()), (0, vec![7]));
        }
        let half = read(&TensorProto { int32_data: vec![0x3c00], ..proto(10, &[1]) }).unwrap();
        assert_eq!(half.to_f32_vec().unwrap(), [1.0]);
        let brain = read(&TensorProto { int32_data: vec![0x3f80], ..proto(16, &[1]) }).unwrap();
        assert_eq!(brain.to_f32_vec().unwrap(), [1.0]);
        assert_eq!(read(&proto(1, &[0, 3])).unwrap().len(), 0);
    }

    #[test]
    fn contradictions_are_refused_with_the_field_as_their_place() {
        let raw = |n: usize| Some(Bytes::from(vec![2u8; n]));
        let cases = [
            (TensorProto { raw_data: raw(5), ..proto(1, &[1]) }, ErrorKind::Malformed, "raw_data"),
            (TensorProto { raw_data: raw(1), ..proto(9, &[1]) }, ErrorKind::Malformed, "raw_data"),
            (TensorProto { int32_data: vec![2], ..proto(9, &[1]) }, ErrorKind::Malformed, "int32_data"),
            (TensorProto { int32_data: vec![300], ..proto(2, &[1]) }, ErrorKind::Malformed, "int32_data"),
            (
                TensorProto { raw_data: raw(4), float_data: vec![1.0], ..proto(1, &[1]) },
                ErrorKind::Malformed,
                "float_data",
            ),
            (TensorProto { int64_data: vec![1], ..proto(1, &[1]) }, ErrorKind::Malformed, "int64_data"),
            (TensorProto { float_data: vec![1.0; 3], ..proto(1, &[2]) }, ErrorKind::Malformed, "3 elements"),
            (proto(1, &[1]), ErrorKind::Malformed, "no data"),
            (proto(1, &[-1]), ErrorKind::Malformed, "dims[0]"),
            (proto(1, &[i64::MAX, i64::MAX]), ErrorKind::Limit, "dims"),
            (proto(1, &[1 << 30]), ErrorKind::Limit, "max_tensor_bytes"),
            (proto(0, &[1]), ErrorKind::InvalidModel, "data_type"),
            (proto(8, &[1]), ErrorKind::Unsupported, "strings"),
            (proto(17, &[1]), ErrorKind::Unsupported, "data_type"),
            (proto(99, &[1]), ErrorKind::InvalidModel, "data_type"),
            (TensorProto { data_location: 1, ..proto(1, &[1]) }, ErrorKind::Unsupported, "external data"),
        ];
        for (proto, kind, says) in cases {
            let error = read(&proto).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says) && error.to_string().contains("\"w\""), "{error}");
        }
    }
}
