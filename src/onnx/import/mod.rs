//! Bytes to graph: the file's own claims checked, then its graph built node by node.

mod attributes;
mod bodies;
mod constants;
mod functions;
mod graph;
mod nodes;
mod opsets;
mod order;
mod remarks;
mod survey;
mod types;

use super::external::Folder;
use super::limits::{LoadLimits, LoadOptions};
use super::proto::{FunctionProto, GraphProto, ModelProto, TensorProto};
use super::scan;
use super::tensors::TensorSource;
use crate::error::{At, Result, bail, ensure, err};
use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;
use crate::tensor::mapping::Mapping;
use bytes::Bytes;
use opsets::Opsets;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

/// The newest format of the file itself that is known; see `onnx/docs/IR.md`.
const NEWEST_IR: i64 = 14;

/// A model as it was read: the graph, and what the file says of itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// The graph, with functions inlined and initializers as constants; its [metadata](Graph::metadata) tell who wrote the
    /// file, and why.
    pub graph: Graph,
    /// Version of the file format.
    pub ir_version: i64,
    /// Domains and the opset version of each; ONNX's own is the empty name.
    pub opsets: Vec<(String, u32)>,
    /// Inputs that have a default: constants of the graph, but for those that the
    /// [options](LoadOptions::overridable_inputs) keep as inputs.
    pub overridable: Vec<Overridable>,
    /// The file, where it is mapped.
    pub(crate) mapping: Mapping,
}

/// A graph that was read from no file, of which there is nothing else to say.
impl From<Graph> for Imported {
    fn from(graph: Graph) -> Self {
        Imported {
            graph,
            ir_version: NEWEST_IR,
            opsets: Vec::new(),
            overridable: Vec::new(),
            mapping: Mapping::default(),
        }
    }
}

/// An input that a caller may leave out.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Overridable {
    /// The name of the input.
    pub name: String,
    /// What it is when it is left out.
    pub default: Tensor,
    /// The constant, or the input of the graph.
    pub value: ValueId,
}

/// Reads a model from bytes. Tensors share the bytes where their alignment allows.
///
/// # Errors
/// [`Malformed`](crate::ErrorKind::Malformed) for bytes that are no ONNX model,
/// [`InvalidModel`](crate::ErrorKind::InvalidModel) for one that breaks ONNX's rules,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for operators, opsets and types that are not known, all unknown
/// operators in one error, [`Limit`](crate::ErrorKind::Limit) when `options.limits` are passed.
pub fn import(bytes: Bytes, options: &LoadOptions) -> Result<Imported> {
    import_from(bytes, None, options)
}

/// Reads a model from a file, which is mapped and not read; external data is looked up beside it.
///
/// Neither file may be truncated or changed while the model is in use: its weights stay where they are.
///
/// # Errors
/// As [`import`], and [`Io`](crate::ErrorKind::Io).
pub fn import_path(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Imported> {
    let path = path.as_ref();
    let read = || -> Result<Imported> {
        // Looked at before it is opened: opening a pipe would wait for its writer.
        ensure!(std::fs::metadata(path)?.is_file(), Io, "not a regular file; the path of a model file is expected");
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        check_length(length, &options.limits)?;
        let folder = Folder::of(path)?;
        let mapping = Mapping::of(&file)?;
        let imported = import_from(mapping.bytes(), Some(&folder), options)?;
        // What had to be copied for alignment is not needed twice.
        mapping.release_pages();
        Ok(Imported { mapping, ..imported })
    };
    read().at(|| path.display().to_string())
}

/// Reads a model from a reader until its end.
///
/// # Errors
/// As [`import`], and [`Io`](crate::ErrorKind::Io).
pub fn import_reader(reader: impl Read, options: &LoadOptions) -> Result<Imported> {
    let mut bytes = Vec::new();
    let limit = options.limits.max_file_bytes as u64;
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    import(bytes.into(), options)
}

fn check_length(length: u64, limits: &LoadLimits) -> Result<()> {
    let most = limits.max_file_bytes;
    ensure!(length <= most as u64, Limit, "a file of {length} bytes; the limit is {most} (max_file_bytes)");
    Ok(())
}

fn import_from(bytes: Bytes, folder: Option<&Folder>, options: &LoadOptions) -> Result<Imported> {
    check_length(bytes.len() as u64, &options.limits)?;
    ensure!(!bytes.is_empty(), Malformed, "the file is empty");
    scan::scan(&bytes, &options.limits)?;
    let model = ModelProto::decode(bytes).map_err(|e| err!(Malformed, "no ONNX model: {e}").with_source(e))?;
    let Some(proto) = &model.graph else { bail!(Malformed, "no ONNX model: it has no graph") };
    let newest = if options.allow_newer_opset { i64::MAX } else { NEWEST_IR };
    ensure!(
        (0..=newest).contains(&model.ir_version),
        Unsupported,
        "ir_version {} is not known; the newest known is {NEWEST_IR}",
        model.ir_version
    );
    let opsets = Opsets::read(&model.opset_import, model.ir_version, options)?;
    let context = Context::new(&model, &opsets, folder, options)?;
    survey::refuse_unknown(&context, proto, &opsets)?;
    let (graph, overridable) = graph::main_graph(&context, proto, &opsets)?;
    graph.verify()?;
    Ok(Imported {
        graph,
        ir_version: model.ir_version,
        opsets: opsets.to_list(),
        overridable,
        mapping: Mapping::default(),
    })
}

/// What holds for the whole import: limits, functions, the source of tensors.
struct Context<'m> {
    model: &'m ModelProto,
    options: &'m LoadOptions,
    functions: HashMap<FunctionKey<'m>, Function<'m>>,
    tensors: TensorSource<'m>,
    /// The tensors that were read, by where they stand in the file: a function that is called often holds them once.
    read: RefCell<HashMap<*const TensorProto, Tensor>>,
    nodes: Cell<usize>,
    bodies: Cell<usize>,
    items: Cell<usize>,
    text: Cell<usize>,
    /// What each body takes from around it.
    free_names: RefCell<HashMap<*const GraphProto, Rc<[&'m str]>>>,
    /// The dimensions that the inputs of the model name; other names in bodies say nothing.
    symbols: HashSet<&'m str>,
}

/// Domain, name and overload.
type FunctionKey<'m> = (&'m str, &'m str, &'m str);

struct Function<'m> {
    proto: &'m FunctionProto,
    opsets: Opsets,
    /// The attributes that a call may leave out.
    defaults: functions::Arguments<'m>,
}

impl<'m> Context<'m> {
    fn new(
        model: &'m ModelProto,
        opsets: &Opsets,
        folder: Option<&'m Folder>,
        options: &'m LoadOptions,
    ) -> Result<Self> {
        let mut functions = HashMap::new();
        for proto in &model.functions {
            let place = || format!("function {:?}", proto.name);
            let key = (opsets::canonical_domain(&proto.domain), proto.name.as_str(), proto.overload.as_str());
            let own = Opsets::read(&proto.opset_import, i64::MAX, options).at(place)?;
            let defaults = proto.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
            let previous = functions.insert(key, Function { proto, opsets: own.or(opsets), defaults });
            ensure!(previous.is_none(), InvalidModel, "function {:?} is defined twice", proto.name);
        }
        let inputs = model.graph.iter().flat_map(|g| &g.input);
        Ok(Context {
            model,
            options,
            functions,
            tensors: TensorSource::new(options.limits.max_tensor_bytes, folder),
            read: RefCell::default(),
            nodes: Cell::new(0),
            bodies: Cell::new(0),
            items: Cell::new(0),
            text: Cell::new(0),
            free_names: RefCell::default(),
            symbols: inputs.flat_map(types::named_dims).collect(),
        })
    }

    /// A tensor of the file.
    fn tensor(&self, proto: &'m TensorProto) -> Result<Tensor> {
        let key = std::ptr::from_ref(proto);
        if let Some(tensor) = self.read.borrow().get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = self.tensors.read(proto)?;
        self.read.borrow_mut().insert(key, tensor.clone());
        Ok(tensor)
    }

    /// Counts a node, wherever it stands.
    fn count_node(&self) -> Result<()> {
        let most = self.options.limits.max_nodes;
        self.nodes.set(self.nodes.get() + 1);
        ensure!(self.nodes.get() <= most, Limit, "more than {most} nodes once functions are inlined (max_nodes)");
        Ok(())
    }

    /// Counts a body, wherever it stands.
    fn count_body(&self) -> Result<()> {
        let most = self.options.limits.max_bodies;
        self.bodies.set(self.bodies.get() + 1);
        ensure!(self.bodies.get() <= most, Limit, "more than {most} bodies (max_bodies)");
        Ok(())
    }

    /// Counts inputs, outputs and captures of nodes, of which a function that is called often makes many.
    fn count_items(&self, count: usize) -> Result<()> {
        let most = self.options.limits.max_items();
        self.items.set(self.items.get().saturating_add(count));
        let fits = self.items.get() <= most;
        ensure!(fits, Limit, "more than {most} inputs and outputs of nodes (32 for each of max_nodes)");
        Ok(())
    }

    /// Counts the bytes of a name, or of an attribute that is no tensor.
    fn count_text(&self, bytes: usize) -> Result<()> {
        let most = self.options.limits.max_text_bytes;
        self.text.set(self.text.get().saturating_add(bytes));
        let fits = self.text.get() <= most;
        ensure!(fits, Limit, "names and attributes take more than {most} bytes (max_text_bytes)");
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<()> {
        let most = self.options.limits.max_depth;
        ensure!(depth <= most, Limit, "bodies and functions nest deeper than {most} (max_depth)");
        Ok(())
    }
}
