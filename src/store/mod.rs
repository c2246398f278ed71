//! Compiled models in files: the optimized graph and the packed weights, written once and mapped back without packing.
//!
//! ```text
//! header   128 bytes: magic, format, version, instruction set, options; length and digest of the index
//! index    records: graph, constants, packed forms, shapes of plans; names sections by number
//! sections from a page on: the elements of constants, the panels of packed forms, each aligned to 64 bytes
//! ```
//! Nothing in a file is trusted. The index is compared with its digest, sections with the length of the file and with
//! each other, the graph is built anew so that inference judges it, and every packed form compares its lengths with its
//! sizes when it is put together. What the kernels do with a form is not known here.

mod digest;
mod graphs;
mod header;
mod index;
mod record;
mod sections;
mod tensors;
#[cfg(test)]
mod tests;

use digest::digest;
pub(crate) use header::Stamp;

use crate::backend::StoredWeight;
use crate::error::{Error, Result, ensure, err};
use crate::graph::Graph;
use crate::kernels::stored::Parts;
use crate::tensor::mapping::Mapping;
use crate::tensor::{Buffer, Fact, Shape, Tensor};
use header::{LENGTH, Lengths};
use index::{Index, PackedEntry, PortEntry};
use sections::{PAGE, Sections, Source, Writer};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tensors::{Table, Tensors};

/// An input or output of a model.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) fact: Fact,
    /// What an input is when it is left out.
    pub(crate) default: Option<Tensor>,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) weights: Vec<StoredWeight>,
    pub(crate) plans: Vec<Vec<Shape>>,
    pub(crate) serial_plans: Vec<Vec<Shape>>,
    pub(crate) max_folded_bytes: usize,
    /// Whether Winograd's algorithm was allowed.
    pub(crate) winograd: bool,
    /// Whether products of quantized values were allowed to run in integers.
    pub(crate) integers: bool,
}

/// Writes a compiled model. The file appears under its name when it is complete, and not before.
pub(crate) fn write(path: &Path, contents: &Contents, stamp: &Stamp) -> Result<()> {
    let mut table = Table::default();
    let graph = graphs::write(&contents.graph, &mut table)?;
    let mut ports = |ports: &[Port]| -> Vec<PortEntry> {
        let default = |port: &Port, table: &mut Table| port.default.as_ref().map(|tensor| table.add(tensor));
        ports.iter().map(|p| graphs::port(&p.name, &p.fact, default(p, &mut table))).collect()
    };
    let (inputs, outputs) = (ports(&contents.inputs), ports(&contents.outputs));
    let mut packed = Vec::new();
    for weight in &contents.weights {
        // What folding made for some plan alone is packed again when that plan is made again.
        let Some(source) = table.find(&weight.source) else { continue };
        let Parts { numbers, buffers } = &weight.parts;
        packed.push(PackedEntry {
            source,
            kind: weight.kind.as_str().into(),
            variant: weight.variant,
            numbers: numbers.iter().copied().collect(),
            sections: buffers.iter().map(|buffer| table.sections.add(Source::Buffer(buffer.clone()))).collect(),
        });
    }
    let shapes = |plans: &[Vec<Shape>]| -> Vec<Vec<Vec<usize>>> {
        plans.iter().map(|shapes| shapes.iter().map(Shape::to_vec).collect()).collect()
    };
    let Table { sections, entries, .. } = table;
    let index = Index {
        sections: sections.lay_out(),
        tensors: entries,
        graph,
        inputs,
        outputs,
        packed,
        plans: shapes(&contents.plans),
        serial_plans: shapes(&contents.serial_plans),
        max_folded_bytes: contents.max_folded_bytes,
        winograd: contents.winograd,
        integers: contents.integers,
    };
    let records = record::to_bytes(&index);
    let start = data_start(records.len());
    let file = start + Writer::length(&index.sections);
    let lengths = Lengths { index: records.len(), index_digest: digest(&records), file };
    replace(path, |to| {
        to.write_all(&stamp.header(lengths))?;
        to.write_all(&records)?;
        to.write_all(&[0; PAGE][..start - LENGTH - records.len()])?;
        sections.write(&index.sections, to)
    })
}

/// A digest of the operators, shapes and dtypes of a graph, and not of the elements of its constants.
pub(crate) fn fingerprint(graph: &Graph) -> Result<u64> {
    let mut table = Table::default();
    let entry = graphs::write(graph, &mut table)?;
    Ok(digest(&record::to_bytes(&(entry, table.entries))))
}

/// Where sections begin: a page behind an index of so many bytes.
fn data_start(index: usize) -> usize {
    index.saturating_add(LENGTH).checked_next_multiple_of(PAGE).unwrap_or(usize::MAX)
}

/// Writes a file beside its place and then puts it there.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().ok_or_else(|| err!(Io, "not the name of a file"))?.to_owned();
    name.push(format!(".{}-{count}.new", std::process::id()));
    let beside: PathBuf = path.with_file_name(name);
    let written = || -> Result<()> {
        let mut to = BufWriter::new(File::options().write(true).create_new(true).open(&beside)?);
        write(&mut to)?;
        let file = to.into_inner().map_err(|e| Error::from(e.into_error()))?;
        file.sync_all()?;
        Ok(std::fs::rename(&beside, path)?)
    };
    let result = written();
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result
}

/// Maps a compiled model and checks it. Its weights stay in the file; they are read through and compared with their
/// digests only where `verify` is set.
pub(crate) fn read(path: &Path, stamp: &Stamp, verify: bool) -> Result<Contents> {
    let file = Mapping::of(&File::open(path)?)?.bytes();
    let lengths = stamp.check(&file)?;
    let start = data_start(lengths.index);
    ensure!(start <= file.len(), Malformed, "the file is damaged or cut off; compile the model again");
    let records = &file[LENGTH..LENGTH + lengths.index];
    let whole = digest(records) == lengths.index_digest && file[LENGTH + lengths.index..start].iter().all(|&b| b == 0);
    ensure!(whole, Malformed, "the index is damaged; compile the model again");
    let index: Index = record::from_bytes(records)?;
    let sections = Sections::new(file.slice(start..), index.sections)?;
    if verify {
        sections.verify()?;
    }
    let tensors = Tensors::new(&index.tensors, &sections)?;
    let graph = graphs::read(&index.graph, &tensors)?;
    let ports = |entries: &[PortEntry], count: usize| -> Result<Vec<Port>> {
        ensure!(entries.len() == count, Malformed, "{} names for {count} inputs or outputs", entries.len());
        let port = |entry: &PortEntry| {
            let default = entry.default.map(|number| tensors.get(number).cloned()).transpose()?;
            Ok(Port { name: entry.name.to_string(), fact: graphs::fact(entry)?, default })
        };
        entries.iter().map(port).collect()
    };
    let inputs = ports(&index.inputs, graph.inputs().len())?;
    let outputs = ports(&index.outputs, graph.outputs().len())?;
    let dtypes = inputs.iter().zip(graph.inputs()).chain(outputs.iter().zip(graph.outputs()));
    for (port, id) in dtypes {
        let dtype = graph.fact(*id).dtype;
        ensure!(port.fact.dtype == dtype, Malformed, "{:?} is {dtype}, not {}", port.name, port.fact.dtype);
    }
    let weight = |entry: PackedEntry| -> Result<StoredWeight> {
        let buffers: Result<_> = entry.sections.iter().map(|&s| sections.get(s).map(Buffer::from_bytes)).collect();
        let parts = Parts { numbers: entry.numbers.into(), buffers: buffers? };
        let source = tensors.get(entry.source)?.clone();
        Ok(StoredWeight { source, kind: entry.kind.into_owned(), variant: entry.variant, parts })
    };
    let weights = index.packed.into_iter().map(weight).collect::<Result<_>>()?;
    let shapes = |plans: Vec<Vec<Vec<usize>>>| -> Vec<Vec<Shape>> {
        plans.into_iter().map(|plan| plan.into_iter().map(|shape| shape.into_iter().collect()).collect()).collect()
    };
    let (plans, serial_plans) = (shapes(index.plans), shapes(index.serial_plans));
    let (max_folded_bytes, winograd, integers) = (index.max_folded_bytes, index.winograd, index.integers);
    Ok(Contents { graph, inputs, outputs, weights, plans, serial_plans, max_folded_bytes, winograd, integers })
}
