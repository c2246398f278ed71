//! Casts yield what the reference does, however they are divided.

use super::*;
use crate::backend::cpu::Cpu;
use crate::ops::elementwise::Cast;
use crate::tensor::Fact;

#[test]
fn casts_are_those_of_the_reference() {
    use DType::{BF16, Bool, F16, F32, I32, I64, U8};
    let limits = RunLimits { bytes: 1 << 30, steps: 1000 };
    let pairs =
        [(F16, F32), (BF16, F32), (F32, F16), (F32, BF16), (I64, F32), (U8, F32), (F32, I64), (I64, I32), (Bool, I64)];
    for len in [0, 5, 1024, 5000] {
        let numbers = Tensor::vector((0..len).map(|i| (i as f32 * 0.37).sin() * 90.0 + 100.0).collect::<Vec<f32>>());
        for (from, to) in pairs {
            let x = numbers.cast(from).unwrap();
            let mut graph = Graph::new("cast");
            let id = graph.input("x", Fact::concrete(from, x.shape())).unwrap();
            let y = graph.op("y", Cast { to }, &[id]).unwrap();
            graph.output(y).unwrap();
            let expected = graph.interpret(std::slice::from_ref(&x)).unwrap();
            for threads in [1, 3] {
                let division = Division { threads: Threads::eager(threads), micro_batch: None };
                let shapes = [x.shape().clone()];
                let plan =
                    Plan::new(&graph, &shapes, &Cpu::new().unwrap(), &Weights::new(), limits, &division).unwrap();
                assert_eq!(plan.fallbacks(), Vec::<String>::new(), "{from} to {to}");
                let mut scratch = plan.scratch().unwrap();
                plan.run(&mut scratch, std::slice::from_ref(&x)).unwrap();
                assert_eq!(
                    scratch.output(0).unwrap().as_bytes(),
                    expected[0].as_bytes(),
                    "{from} to {to} by {threads}"
                );
            }
        }
    }
}
