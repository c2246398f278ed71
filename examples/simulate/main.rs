//! Policies, balancers and settings compared in simulated time, and one case run for real beside it.
//!
//! The case: a hundred equal tasks arrive at once, and there are five replicas. Batching, splitting over the replicas and
//! balancing each make a step of their own.

mod case;
mod load;

use clap::Parser;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Compares policies, balancers and settings in simulated time")]
struct Arguments {
    /// Requests in each of the simulations of load
    #[arg(long, default_value_t = 1_000_000)]
    requests: usize,
    /// How long a task of the case takes alone, in milliseconds
    #[arg(long, default_value_t = 60.0)]
    task_ms: f64,
    /// Run the case through the executor too, with a runner that sleeps as long as a batch would take
    #[arg(long)]
    real: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> onrush::Result<()> {
    let steps = case::steps(arguments.task_ms, arguments.real)?;
    let start = Instant::now();
    let policies = load::policies(arguments.requests);
    let balancers = load::balancers(arguments.requests);
    let settings = load::settings(arguments.requests);
    let seconds = start.elapsed().as_secs_f64();
    let simulated = policies.iter().chain(&settings).map(|record| record.requests).sum::<usize>()
        + balancers.iter().map(|record| record.requests).sum::<usize>();
    if arguments.json {
        let all = serde_json::json!({
            "case": steps, "policies": policies, "balancers": balancers, "settings": settings,
            "simulated_requests": simulated, "seconds": seconds,
        });
        println!("{all}");
        return Ok(());
    }
    println!("A hundred equal tasks at once, {} ms each alone\n{}", arguments.task_ms, case::table(&steps));
    println!("Policies, one job in ten twenty times as long, with deadlines\n{}", load::policy_table(&policies));
    println!(
        "Balancers, four replicas, one of them half as fast, plans that may be cold\n{}",
        load::balancer_table(&balancers)
    );
    println!("Batch caps and delays at one load\n{}", load::policy_table(&settings));
    println!("{simulated} requests simulated in {seconds:.1} s");
    Ok(())
}
