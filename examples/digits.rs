//! The main job in one command: a crowd of client threads asks one model, and the engine batches what they ask.
//!
//! `cargo run --release --example digits` shows a small network, trained on handwritten digits, to 64 clients that
//! between them ask for each of 500 test images again and again: through the engine, then without it. It checks every
//! answer: exit code 1 if fewer than 97 % are right, or if one differs in a single bit from the answer to that image
//! alone. `data/README.md` says where model and images come from.

use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use onrush::monitor::Snapshot;
use onrush::{CompileOptions, Engine, Model, Outputs, Result, Tensor};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MODEL: &[u8] = include_bytes!("data/digits.onnx");
/// For each of the 1,797 images 64 bytes of pixels, 0 to 16, and its label.
const IMAGES: &[u8] = include_bytes!("data/digits.bin");

/// Images at the front that the network was trained on; nobody asks for them.
const TRAINING_IMAGES: usize = 1_297;

#[derive(Parser)]
#[command(about = "Lets a crowd of clients ask for every test image, batched and one by one")]
struct Arguments {
    /// Threads that ask at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// How often every test image is asked for
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The most images that run together
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_batch: u32,
}

/// A test image: `[1, 1, 8, 8]`, what it shows, and the model's answer to it alone.
struct Image {
    pixels: Tensor,
    label: usize,
    solo: Vec<f32>,
}

fn main() -> Result<ExitCode> {
    let Arguments { clients, rounds, max_batch } = Arguments::parse();
    let (clients, rounds) = (usize::from(clients), usize::from(rounds));

    // One model, compiled once: the engine and the one-by-one calls below share it.
    let model = Model::from_bytes(MODEL)?.compile(&CompileOptions::new())?;
    let images = read_test_images(|pixels| model.run([pixels]))?;
    let engine = Engine::builder(model.clone()).max_batch_size(max_batch).build()?;

    println!("{} test images, {rounds} rounds, batches of at most {max_batch}\n", images.len());
    println!("{:<34}{:>11}{:>11}{:>11}{:>11}", "", "answers/s", "p50 us", "p99 us", "right");
    let batched = ask_all("batched by the engine", clients, rounds, &images, |pixels| engine.submit([pixels])?.wait())?;
    let alone = ask_all("one by one", clients, rounds, &images, |pixels| model.run([pixels]))?;
    ask_all("one by one", 1, rounds, &images, |pixels| model.run([pixels]))?;

    println!("\nThe engine gave {:.2} times the answers of one-by-one calls.", batched.per_second / alone.per_second);
    print_batches(&engine.snapshot());

    if batched.right < 0.97 {
        println!("\nFAILED: fewer than 97 % of the answers are right.");
    } else if batched.differing + alone.differing > 0 {
        let differing = batched.differing + alone.differing;
        println!("\nFAILED: {differing} answers differ from the first answer to that image alone.");
    } else {
        println!("\nEvery batched answer equals the answer to that image alone, bit for bit.");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn read_test_images(ask: impl Fn(Tensor) -> Result<Outputs>) -> Result<Vec<Image>> {
    let image = |record: &[u8]| {
        let (pixels, label) = record.split_at(64);
        let pixels = Tensor::new([1, 1, 8, 8], pixels.iter().map(|&p| f32::from(p) / 16.0).collect())?;
        let solo = ask(pixels.clone())?["logits"].to_f32_vec()?;
        Ok(Image { pixels, label: usize::from(label[0]), solo })
    };
    IMAGES.chunks_exact(65).skip(TRAINING_IMAGES).map(image).collect()
}

/// What a crowd saw.
struct Figures {
    per_second: f64,
    /// The share of right answers.
    right: f64,
    /// Answers that are not, bit for bit, the solo answer.
    differing: usize,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    right: usize,
    differing: usize,
}

/// Lets `clients` threads ask for every image once a round, each for the next that nobody has asked for, and prints a
/// line of the table. A round that is not counted goes before.
fn ask_all(
    name: &str,
    clients: usize,
    rounds: usize,
    images: &[Image],
    ask: impl Fn(Tensor) -> Result<Outputs> + Sync,
) -> Result<Figures> {
    let total = rounds * images.len();
    let title = format!("{name}, {clients} client{}", if clients == 1 { "" } else { "s" });
    let style = ProgressStyle::with_template("{msg:33} {bar:36} {pos}/{len}").unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(total as u64).with_style(style).with_message(title.clone());

    let crowd = |total: usize| {
        let next = AtomicUsize::new(0);
        let client = || {
            let mut seen = Seen::default();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= total {
                    return Ok(seen);
                }
                let image = &images[turn % images.len()];
                let start = Instant::now();
                let answer = ask(image.pixels.clone())?;
                seen.latencies.push(start.elapsed());
                let logits = answer["logits"].as_slice::<f32>()?;
                seen.right += usize::from(largest(logits) == image.label);
                seen.differing += usize::from(!same_bits(logits, &image.solo));
                if turn.is_multiple_of(64) {
                    bar.set_position(turn as u64);
                }
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            threads.into_iter().map(|t| t.join().expect("a client panicked")).collect::<Result<Vec<Seen>>>()
        })
    };

    crowd(images.len())?;
    let start = Instant::now();
    let seen = crowd(total)?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let mut latencies: Vec<Duration> = seen.iter().flat_map(|s| &s.latencies).copied().collect();
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let at = ((latencies.len() - 1) as f64 * q) as usize;
        HumanCount(latencies[at].as_micros() as u64).to_string()
    };
    let figures = Figures {
        per_second: total as f64 / seconds,
        right: seen.iter().map(|s| s.right).sum::<usize>() as f64 / total as f64,
        differing: seen.iter().map(|s| s.differing).sum(),
    };
    let rate = HumanCount(figures.per_second as u64).to_string();
    let right = format!("{:.1} %", figures.right * 100.0);
    println!("{title:<34}{rate:>11}{:>11}{:>11}{right:>11}", quantile(0.5), quantile(0.99));
    Ok(figures)
}

/// The place of the largest logit: the digit that the model sees.
fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// How many batches had 1, 2 to 3, 4 to 7, ... rows, each as a bar.
fn print_batches(snapshot: &Snapshot) {
    let rows = &snapshot.batch_rows;
    println!("\n{} batches, {:.1} images in a batch on average:", HumanCount(rows.count()), rows.mean());
    let mut bins = vec![0; 1 + rows.max().max(1).ilog2() as usize];
    for (size, batches) in rows.classes() {
        bins[size.max(1).ilog2() as usize] += batches;
    }
    let most = bins.iter().copied().max().unwrap_or_default().max(1);
    for (power, batches) in bins.into_iter().enumerate() {
        let (first, last) = (1_u64 << power, (2_u64 << power) - 1);
        let label = if first == last { first.to_string() } else { format!("{first}-{last}") };
        println!("{label:>10} {} {}", "#".repeat((batches * 50).div_ceil(most) as usize), HumanCount(batches));
    }
}
