//! The main job as a test: several callers ask for handwritten digits, a few at a time, through the engine. The answers
//! are right, and each is bit for bit what the image gets alone.

use onrush::{CompileOptions, CompiledModel, Engine, Model, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MODEL: &[u8] = include_bytes!("../examples/data/digits.onnx");
/// For each image 64 bytes of pixels, 0 to 16, and its label.
const RECORD: usize = 65;
const ALL_IMAGES: &[u8] = include_bytes!("../examples/data/digits.bin");
/// Those that the network was not trained on: the last 500.
const IMAGES: &[u8] = ALL_IMAGES.split_at(1_297 * RECORD).1;
const CLASSES: usize = 10;
const CALLERS: usize = 8;

fn compiled() -> CompiledModel {
    Model::from_bytes(MODEL).unwrap().compile(&CompileOptions::new()).unwrap()
}

/// Images as `[rows, 1, 8, 8]`.
fn pixels(records: &[u8]) -> Tensor {
    let images = records.chunks_exact(RECORD).flat_map(|record| &record[..64]);
    Tensor::new([records.len() / RECORD, 1, 8, 8], images.map(|&p| f32::from(p) / 16.0).collect()).unwrap()
}

fn bits(logits: &Tensor) -> Vec<u32> {
    logits.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

fn class(logits: &[u32]) -> usize {
    let value = |&at: &usize| f32::from_bits(logits[at]);
    (0..CLASSES).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap()
}

#[test]
fn callers_get_right_answers_whatever_they_ride_with() {
    let model = compiled();
    let solo: Vec<Vec<u32>> =
        IMAGES.chunks_exact(RECORD).map(|record| bits(&model.run([pixels(record)]).unwrap()["logits"])).collect();
    assert_eq!(solo.len(), 500);
    let right =
        solo.iter().zip(IMAGES.chunks_exact(RECORD)).filter(|(bits, record)| class(bits) == usize::from(record[64]));
    let right = right.count();
    assert!(right >= 485, "{right} of 500 are right");

    let engine = Engine::builder(model).max_batch_size(32).workers(2).build().unwrap();
    // The images in requests of 1 to 7 rows, in turn.
    let mut requests = Vec::new();
    let mut first = 0;
    while first < solo.len() {
        let rows = (requests.len() % 7 + 1).min(solo.len() - first);
        requests.push((first, rows));
        first += rows;
    }
    let next = AtomicUsize::new(0);
    let caller = || {
        let mut answered = 0;
        // Three tickets at a time, so that a caller's own requests ride together too.
        loop {
            let start = next.fetch_add(3, Ordering::Relaxed);
            if start >= requests.len() {
                return answered;
            }
            let some = &requests[start..requests.len().min(start + 3)];
            let submit = |&(first, rows): &(usize, usize)| {
                engine.submit([pixels(&IMAGES[first * RECORD..(first + rows) * RECORD])]).unwrap()
            };
            let tickets: Vec<_> = some.iter().map(submit).collect();
            for (&(first, rows), ticket) in some.iter().zip(tickets) {
                let answer = ticket.wait().unwrap();
                assert_eq!(answer["logits"].shape().to_vec(), [rows, CLASSES]);
                assert_eq!(bits(&answer["logits"]), solo[first..first + rows].concat(), "images {first} and on");
                answered += rows;
            }
        }
    };
    let answered: usize = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(answered, solo.len());

    let snapshot = engine.snapshot();
    assert_eq!(snapshot.requests.answered, requests.len() as u64);
    assert_eq!(snapshot.batch_rows.sum(), 500);
    assert_eq!(snapshot.requests.failed, 0);
}

#[test]
fn the_data_are_all_of_the_images() {
    assert_eq!(ALL_IMAGES.len(), 1_797 * RECORD);
    for record in ALL_IMAGES.chunks_exact(RECORD) {
        assert!(record[..64].iter().all(|&pixel| pixel <= 16) && record[64] <= 9);
    }
}

#[test]
fn the_model_says_what_it_takes() {
    let model = Model::from_bytes(MODEL).unwrap();
    let describe = |infos: &[onrush::ValueInfo]| infos.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(model.inputs().len(), 1);
    let [input, output] = [describe(model.inputs()), describe(model.outputs())].map(|list| list.concat());
    assert!(input.starts_with("image: ") && input.contains("N,"), "{input}");
    assert!(output.starts_with("logits: ") && output.contains("10"), "{output}");
    assert!(model.run([Tensor::zeros(onrush::DType::F32, [1, 1, 9, 8]).unwrap()]).is_err());
}
