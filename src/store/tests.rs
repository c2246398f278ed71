//! What is refused of an index whose digest is right.

use super::index::{AttrEntry, Index};
use super::*;
use crate::kernels::arch::Isa;
use crate::ops::matrix::MatMul;
use crate::tensor::DType;
use crate::{CompileOptions, Model};

fn options() -> CompileOptions {
    CompileOptions::new().threads(1)
}

/// The file of a product of `[1, 2]` with `[2, 3]`.
fn small(path: &Path) -> Vec<u8> {
    let mut graph = Graph::new("small");
    let x = graph.input("x", Fact::concrete(DType::F32, &[1, 2])).unwrap();
    let w = graph.constant("w", Tensor::new([2, 3], vec![0.5f32; 6]).unwrap()).unwrap();
    let y = graph.op("y", MatMul, &[x, w]).unwrap();
    graph.output(y).unwrap();
    Model::from_graph(graph).unwrap().compile(&options()).unwrap().save_compiled(path).unwrap();
    std::fs::read(path).unwrap()
}

/// The file with an index that was changed, and all else right.
fn changed(file: &[u8], change: fn(&mut Index)) -> Vec<u8> {
    let stamp = Stamp { isa: Isa::chosen().unwrap(), options: options().of_the_graph() };
    let lengths = stamp.check(file).unwrap();
    let mut index = record::from_bytes(&file[LENGTH..LENGTH + lengths.index]).unwrap();
    change(&mut index);
    let records = record::to_bytes(&index);
    let data = &file[data_start(lengths.index)..];
    let start = data_start(records.len());
    let lengths = Lengths { index: records.len(), index_digest: digest(&records), file: start + data.len() };
    let mut other = [stamp.header(lengths).to_vec(), records].concat();
    other.resize(start, 0);
    [&other, data].concat()
}

#[test]
fn an_index_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let file = small(&path);
    assert_eq!(changed(&file, |_| ()), file);
    let lies: [fn(&mut Index); 17] = [
        |index| index.packed[0].numbers[1] = 4,
        |index| index.packed[0].numbers[0] = 3,
        |index| index.packed[0].numbers[0] = 1,
        |index| index.packed[0].source = 9,
        |index| index.tensors[0].shape = vec![3, 2],
        |index| index.tensors[0].shape = vec![2, 9],
        |index| index.tensors[0].shape = vec![i64::MAX as usize; 2],
        |index| index.tensors[0].dtype = 7,
        |index| index.graph.outputs = vec![7],
        |index| index.graph.nodes[0].inputs = vec![Some(0), Some(2)],
        |index| index.graph.nodes[0].inputs = vec![Some(0)],
        |index| index.graph.nodes[0].inputs = vec![Some(0), None],
        |index| index.graph.nodes[0].op.captures = 5,
        |index| index.graph.nodes[0].op.name = "Nothing".into(),
        |index| index.graph.nodes[0].op.attrs.push(("nothing".into(), AttrEntry::Int(1))),
        |index| index.serial_plans.push(vec![]),
        |index| index.sections[0].offset = 64_000_000,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        std::fs::write(&path, changed(&file, lie)).unwrap();
        assert!(Model::load_compiled(&path, &options()).is_err(), "lie {number}");
    }
}
