//! A policy of one's own: `cargo run --release --example custom_policy`.
//!
//! A service has paying and free users. Paying ones go first, but every fourth batch belongs to the free ones, so that
//! they are slow and never stuck; room that is left in a batch is anybody's. The example lets both crowds ask a small
//! network at once, under this policy and under first come first served, and prints what each crowd saw.

use onrush::sched::{Decision, FirstCome, Policy, View};
use onrush::{Engine, Model, Result, SubmitOptions, Tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAYING: u64 = 1;
const FREE: u64 = 2;

// The policy: it sees what waits, in order of arrival, and says who rides next. It reads no clock and takes no lock.
struct PayingFirst {
    batches: u64,
    opened_by_free: Arc<AtomicU64>,
}

impl Policy for PayingFirst {
    fn name(&self) -> &str {
        "paying-first"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        let first = if self.batches % 4 == 3 { FREE } else { PAYING };
        let of = |wanted: bool| {
            let positions = view.waiting.iter().enumerate();
            positions.filter(move |(_, request)| (request.tenant == first) == wanted).map(|(at, _)| at)
        };
        view.form(of(true).chain(of(false)), decision);
        if let Some(&leader) = decision.run.first() {
            self.batches += 1;
            let is_free = view.waiting[leader].tenant == FREE;
            self.opened_by_free.fetch_add(is_free.into(), Ordering::Relaxed);
        }
    }
}
// That was all of it.

/// What one crowd saw: answers, and the times from submit to answer.
fn crowd(engine: &Engine, tenant: u64, outstanding: usize, time: Duration) -> Result<Vec<Duration>> {
    let image = Tensor::zeros(onrush::DType::F32, [1, 1, 8, 8])?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let submit = |_| engine.submit_with([image.clone()], SubmitOptions::new().tenant(tenant)).map_err(Into::into);
        let tickets: Vec<_> = (0..outstanding).map(submit).collect::<Result<_>>()?;
        for ticket in tickets {
            let (answer, timing) = ticket.wait_timed();
            answer?;
            times.push(timing.total());
        }
    }
    times.sort_unstable();
    Ok(times)
}

fn serve(policy: impl Policy) -> Result<()> {
    println!("{}", policy.name());
    let model = Model::from_bytes(include_bytes!("data/digits.onnx"))?;
    let engine = Engine::builder(model).max_batch_size(16).workers(1).policy(policy).build()?;
    std::thread::scope(|scope| {
        let ask = |tenant, outstanding| {
            let engine = &engine;
            scope.spawn(move || crowd(engine, tenant, outstanding, Duration::from_millis(700)))
        };
        let crowds = [("paying", ask(PAYING, 8)), ("free", ask(FREE, 512))];
        for (name, thread) in crowds {
            let times = thread.join().map_err(|_| onrush::Error::from(std::io::Error::other("a crowd panicked")))??;
            let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
            println!("  {name:<7} {:>8} answers, p50 {:>10.1?}, p99 {:>10.1?}", times.len(), at(0.5), at(0.99));
        }
        println!("  {:.1} requests in a batch", engine.snapshot().batch_requests.mean());
        Ok(())
    })
}

fn main() -> Result<()> {
    serve(FirstCome)?;
    let opened_by_free = Arc::new(AtomicU64::new(0));
    serve(PayingFirst { batches: 0, opened_by_free: opened_by_free.clone() })?;
    println!("  {} batches were opened by free users", opened_by_free.load(Ordering::Relaxed));
    Ok(())
}
