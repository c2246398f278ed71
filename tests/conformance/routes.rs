//! The ways in which a model is run: all of them must give the answers of the suite.

use bytes::Bytes;
use onrush::onnx::{self, LoadOptions};
use onrush::{CompileOptions, Model, Result, Tensor};

/// A way from the bytes of a model and its inputs to its outputs.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Bytes, &[Tensor]) -> Result<Vec<Tensor>>,
}

pub(crate) const ROUTES: &[Route] = &[
    Route { name: "interpreted", run: interpreted },
    Route { name: "exported", run: exported },
    Route { name: "planned", run: planned },
    Route { name: "optimized", run: optimized },
];

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

/// Compiled to a plan without the passes.
fn planned(model: Bytes, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    compiled(model, inputs, &CompileOptions::new().optimize(false))
}

/// Compiled to a plan as a user would.
fn optimized(model: Bytes, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    compiled(model, inputs, &CompileOptions::new())
}

fn compiled(model: Bytes, inputs: &[Tensor], options: &CompileOptions) -> Result<Vec<Tensor>> {
    let model = Model::from_shared(model, &LoadOptions::default())?.compile(options)?;
    Ok(model.run(inputs)?.into_vec())
}
