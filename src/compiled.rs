//! The façade over compiled models in files: saved with their packed weights, and mapped back in milliseconds.

use crate::backend::Weights;
use crate::backend::cpu::Cpu;
use crate::compile_options::CompileOptions;
use crate::error::{At, ErrorKind, Result, ensure};
use crate::kernels::arch::Isa;
use crate::model::{CompiledModel, Model, Settled, ValueInfo};
use crate::passes::PassReport;
use crate::store::{self, Contents, Port, Stamp};
use crate::tensor::mapping::Mapping;
use crate::tensor::{Dim, Fact, Shape};
use std::path::Path;
use std::sync::Arc;

impl CompiledModel {
    /// Writes the compiled model to a file: the optimized graph, the constants, and the weights packed for this machine's
    /// instruction set, as far as the plans made so far have packed them (where there is none, one is made for batches of
    /// one row). [`Model::load_compiled`] maps it back without packing anything.
    ///
    /// The file is for this version of the crate and this instruction set; keep the ONNX file. It is about twice as large
    /// as the weights. A file that is there already is replaced once the new one is complete.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the file cannot be written,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an operator that is in no registry.
    ///
    /// ```
    /// use onrush::{CompileOptions, DType, Fact, Model, Tensor, graph::Graph, ops::matrix::MatMul};
    /// let mut graph = Graph::new("double");
    /// let x = graph.input("x", Fact::concrete(DType::F32, &[1, 1]))?;
    /// let two = graph.constant("two", Tensor::new([1, 1], vec![2.0f32])?)?;
    /// let y = graph.op("y", MatMul, &[x, two])?;
    /// graph.output(y)?;
    /// let options = CompileOptions::new().threads(1);
    /// let path = std::env::temp_dir().join(format!("double-{}.onrush", std::process::id()));
    /// Model::from_graph(graph)?.compile(&options)?.save_compiled(&path)?;
    /// let again = Model::load_compiled(&path, &options)?;
    /// assert_eq!(again.run([Tensor::new([1, 1], vec![21.0f32])?])?[0].as_slice::<f32>()?, [42.0]);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), onrush::Error>(())
    /// ```
    pub fn save_compiled(&self, path: impl AsRef<Path>) -> Result<()> {
        let (mut plans, mut serial_plans) = self.planned_shapes();
        if plans.is_empty() && serial_plans.is_empty() {
            // For its weights only; a model that has no such plan is saved without.
            let ones = |info: &ValueInfo| -> Option<Shape> {
                Some(info.shape.as_ref()?.iter().map(|dim| dim.known().unwrap_or(1)).collect())
            };
            if let Some(shapes) = self.inputs().iter().map(ones).collect::<Option<Vec<Shape>>>() {
                let _ = self.plan(&shapes);
                (plans, serial_plans) = self.planned_shapes();
            }
        }
        let ports = |infos: &[ValueInfo]| -> Vec<Port> {
            let port = |info: &ValueInfo| Port {
                name: info.name.clone(),
                fact: Fact { dtype: info.dtype, shape: info.shape.clone(), value: None, content: None },
                default: info.default.clone(),
            };
            infos.iter().map(port).collect()
        };
        let contents = Contents {
            graph: self.graph().clone(),
            inputs: ports(self.inputs()),
            outputs: ports(self.outputs()),
            weights: self.weights().to_stored(),
            plans,
            serial_plans,
            max_folded_bytes: self.max_folded_bytes(),
            winograd: self.options().winograd,
            integers: self.options().integers,
        };
        let path = path.as_ref();
        store::write(path, &contents, &stamp(self.options())?).at(|| path.display().to_string())
    }
}

impl Model {
    /// Maps a file that [`CompiledModel::save_compiled`] wrote. Weights stay in the file and are read when a run first needs
    /// them; processes that load the same file share its memory. The plans that the saved model had are made again.
    ///
    /// The file must not be changed or truncated while the model lives.
    ///
    /// # Errors
    /// [`Stale`](crate::ErrorKind::Stale) for a file of another version, instruction set or
    /// [`optimize`](CompileOptions::optimize) option (or with algorithms that the options forbid), [`Malformed`](crate::ErrorKind::Malformed) for a damaged one: in
    /// both cases compile the model again from its ONNX file. [`Io`](crate::ErrorKind::Io) when it cannot be read.
    pub fn load_compiled(path: impl AsRef<Path>, options: &CompileOptions) -> Result<CompiledModel> {
        let path = path.as_ref();
        let load = || -> Result<CompiledModel> {
            let stamp = stamp(options)?;
            let contents = store::read(path, &stamp, options.verify)?;
            let infos = |ports: Vec<Port>| -> Vec<ValueInfo> {
                let info = |port: Port| {
                    let shape: Option<Vec<Dim>> = port.fact.shape;
                    ValueInfo { name: port.name, dtype: port.fact.dtype, shape, default: port.default }
                };
                ports.into_iter().map(info).collect()
            };
            let nodes = contents.graph.node_count();
            let report = PassReport { nodes: (nodes, nodes), ..PassReport::default() };
            ensure!(
                options.winograd || !contents.winograd,
                Stale,
                "weights are packed for Winograd's algorithm; compile the model again"
            );
            ensure!(options.integers || !contents.integers, Stale, "products are of integers; compile the model again");
            let compiled = CompiledModel::assemble(Settled {
                graph: contents.graph,
                report,
                inputs: infos(contents.inputs),
                outputs: infos(contents.outputs),
                backend: Arc::new(Cpu::new()?),
                weights: Weights::kept(stamp.isa, contents.weights),
                options: options.clone().winograd(contents.winograd).integers(contents.integers),
                max_folded_bytes: contents.max_folded_bytes,
                mapping: Mapping::default(),
            })?;
            compiled.plan_again(&contents.plans, &contents.serial_plans)?;
            Ok(compiled)
        };
        load().at(|| path.display().to_string())
    }
}

impl CompiledModel {
    /// Makes the plans of a file. One that these options forbid is not made; a call for it says why.
    fn plan_again(&self, plans: &[Vec<Shape>], serial: &[Vec<Shape>]) -> Result<()> {
        let most = self.options().max_plans;
        let made = plans.iter().take(most).map(|shapes| self.plan(shapes));
        let serial = serial.iter().take(most).map(|shapes| self.serial_plan(shapes));
        for result in made.chain(serial) {
            match result {
                Err(error) if error.kind() != ErrorKind::Limit => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// For whom a model that is compiled with these options is good.
fn stamp(options: &CompileOptions) -> Result<Stamp> {
    Ok(Stamp { isa: Isa::chosen()?, options: options.of_the_graph() })
}
