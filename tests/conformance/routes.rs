//! The ways in which a model is run: all of them must give the answers of the suite.

use bytes::Bytes;
use onrush::onnx::{self, LoadOptions};
use onrush::{Result, Tensor};

/// A way from the bytes of a model and its inputs to its outputs.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Bytes, &[Tensor]) -> Result<Vec<Tensor>>,
}

pub(crate) const ROUTES: &[Route] =
    &[Route { name: "interpreted", run: interpreted }, Route { name: "exported", run: exported }];

/// As imported, by reference evaluation.
fn interpreted(model: Bytes, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    onnx::import(model, &LoadOptions::default())?.graph.interpret(inputs)
}

/// Written to a file and read back.
fn exported(model: Bytes, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let options = LoadOptions::default();
    let written = onnx::export(&onnx::import(model, &options)?.graph)?;
    onnx::import(written.into(), &options)?.graph.interpret(inputs)
}
