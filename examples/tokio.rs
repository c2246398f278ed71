//! The engine under an async runtime: `cargo run --release --example tokio`.
//!
//! A ticket is a plain future and the crate knows no runtime, so nothing here is special to tokio: many tasks that each
//! await an answer, a `select!` with a timeout, and a request that is cancelled because its ticket is dropped.

use onrush::{Engine, Error, Model, Result, Tensor};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MODEL: &[u8] = include_bytes!("data/digits.onnx");
const TASKS: usize = 1000;

fn image(seed: usize) -> Result<Tensor> {
    Tensor::new([1, 1, 8, 8], (0..64).map(|pixel| ((pixel * seed) % 17) as f32 / 16.0).collect())
}

/// Asks and awaits: the first await is for room in the queue, the second for the answer.
async fn ask(engine: &Engine, seed: usize) -> Result<Vec<f32>> {
    let ticket = engine.submit_async([image(seed)?])?.await?;
    ticket.await?["logits"].to_f32_vec()
}

async fn many_tasks() -> Result<()> {
    let engine = Engine::builder(Model::from_bytes(MODEL)?).max_batch_size(64).queue_items(128).build()?;
    let (engine, start) = (Arc::new(engine), Instant::now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|seed| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, seed).await })
        })
        .collect();
    let mut checked = 0;
    for (seed, task) in tasks.into_iter().enumerate() {
        let answer = task.await.map_err(|error| Error::from(std::io::Error::other(error)))??;
        if seed % 100 == 0 {
            assert_eq!(answer, engine.run([image(seed)?])?["logits"].to_f32_vec()?, "alone it is the same");
            checked += 1;
        }
    }
    let took = start.elapsed();
    println!("{TASKS} tasks over a queue of 128: answered in {took:.1?}, {checked} of them checked");
    println!("{:.1} requests in a batch", engine.snapshot().batch_requests.mean());
    Ok(())
}

/// An engine that lets a lone request wait a second for company: long enough to lose patience.
async fn losing_patience() -> Result<()> {
    let engine =
        Engine::builder(Model::from_bytes(MODEL)?).max_batch_size(8).max_queue_delay(Duration::from_secs(1)).build()?;
    let start = Instant::now();
    tokio::select! {
        answer = ask(&engine, 1) => println!("unexpected: {answer:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => println!("timed out after {:.0?}", start.elapsed()),
    }
    // The losing branch was dropped, and its ticket with it: the request is cancelled and its room is free again.
    let requests = engine.snapshot().requests;
    assert_eq!((requests.cancelled, requests.waiting), (1, 0));

    let ticket = engine.submit_async([image(2)?])?.await?;
    drop(ticket);
    assert_eq!(engine.snapshot().requests.cancelled, 2);
    println!("dropped tickets cancelled {} requests", engine.snapshot().requests.cancelled);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    many_tasks().await?;
    losing_patience().await
}
