//! With the feature `tracing`, a request leaves its spans and events; a subscriber written here collects their names.

use onrush::exec::{Batch, BatchRunner, Executor, SubmitOptions};
use onrush::monitor::Feedback;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn add(&self, name: String) {
        self.0.lock().unwrap().insert(name);
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().iter().any(|known| known.starts_with(name))
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

struct Collector(Names, AtomicU64);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "onrush"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.add(format!("span {}", span.metadata().name()));
        Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.add(message.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Panics at zero; takes a while otherwise.
struct Odd;

impl BatchRunner for Odd {
    type Request = u32;
    type Response = u32;
    type Scratch = ();

    fn scratch(&self) {}

    fn run(&self, _: &mut (), batch: &mut Batch<'_, u32, u32>) -> onrush::Result<()> {
        std::thread::sleep(Duration::from_micros(500));
        for at in 0..batch.len() {
            let request = *batch.request(at);
            assert!(request > 0, "a poisonous request");
            batch.answer(at, Ok(request));
        }
        Ok(())
    }
}

#[test]
fn every_stage_leaves_its_trace() {
    let names = Names::default();
    tracing::subscriber::set_global_default(Collector(names.clone(), AtomicU64::new(0))).unwrap();
    let goal = Feedback::new(Duration::from_millis(1)).interval(Duration::from_millis(10)).workers(1..=2);
    let executor = Executor::builder(Odd).workers(1).queue_items(4).feedback(goal).build().unwrap();
    let start = Instant::now();
    while executor.snapshot().moves_made == 0 && start.elapsed() < Duration::from_secs(20) {
        let tickets: Vec<_> = (0..9).map(|_| executor.try_submit(7, SubmitOptions::new())).collect();
        tickets.into_iter().flatten().for_each(|ticket| assert_eq!(ticket.wait().unwrap(), 7));
    }
    for _ in 0..8 {
        executor.call(0, SubmitOptions::new()).unwrap_err();
    }
    let wanted =
        ["span submit", "span form", "span run", "span scatter", "batch formed", "refused", "quarantined", "moved"];
    for name in wanted {
        assert!(names.has(name), "no {name} in {:?}", names.0.lock().unwrap());
    }
}
