//! The node cases of ONNX, each through every way of running a model, held to a ledger of what is known to fail.
//!
//! `ONRUSH_CONFORMANCE` is the unpacked `node` folder (otherwise the archive in `../shared/conformance` is unpacked
//! below `target`). Where neither exists the test says so and passes, unless `ONRUSH_REQUIRE_SHARED=1`.
//!
//! While working on operators: `ONRUSH_CASES=conv` takes only the cases whose name contains one of the words that
//! commas separate, `ONRUSH_TIER=first` only those of a tier, `ONRUSH_ROUTE=` only a route; then every case that does
//! not pass is listed, and the ledger is not read. `ONRUSH_LEDGER=write` writes the ledger anew.

mod compare;
mod ledger;
mod models;
mod routes;
mod suite;

use compare::Tolerance;
use ledger::{Ledger, Outcome};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// What the last panic of this thread said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One case by one route.
fn run(case: &suite::Case, route: &routes::Route) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| attempt(case, route)))
        .unwrap_or_else(|_| Outcome::Fail(PANIC.with_borrow(|said| said.replace('\n', " "))))
}

fn attempt(case: &suite::Case, route: &routes::Route) -> Outcome {
    let result = (|| {
        let (inputs, expected) = (suite::tensors(&case.data, "input")?, suite::tensors(&case.data, "output")?);
        let computed = (route.run)(case.model.clone().into(), &inputs)?;
        Ok::<_, onrush::Error>((computed, expected))
    })();
    match result {
        Ok((computed, expected)) => match compare::all(&computed, &expected, Tolerance::of_case(&case.name)) {
            Ok(()) => Outcome::Pass,
            Err(difference) => Outcome::Fail(difference),
        },
        Err(error) if error.kind() == onrush::ErrorKind::Unsupported => Outcome::Unsupported(error.to_string()),
        Err(error) => Outcome::Fail(error.to_string()),
    }
}

#[test]
fn node_cases() {
    let Some(suite) = suite::find() else { return };
    let words = std::env::var("ONRUSH_CASES").unwrap_or_default();
    let words: Vec<&str> = words.split(',').filter(|w| !w.is_empty()).collect();
    let tier = std::env::var("ONRUSH_TIER").unwrap_or_default();
    let route = std::env::var("ONRUSH_ROUTE").unwrap_or_default();
    let filtered = !(words.is_empty() && tier.is_empty() && route.is_empty());
    let writing = std::env::var("ONRUSH_LEDGER").is_ok_and(|v| v == "write");
    let expected = if filtered { Ledger::default() } else { Ledger::read() };

    let mut found = Ledger::default();
    let mut counts: BTreeMap<(usize, &str, &str), [usize; 3]> = BTreeMap::new();
    let mut faults = Vec::new();
    std::panic::set_hook(Box::new(|panic| {
        PANIC.set(panic.to_string());
    }));
    let selected = |case: &suite::Case| {
        let named = words.is_empty() || words.iter().any(|w| case.name.contains(w));
        named && (tier.is_empty() || tier == case.tier)
    };
    let cases: Vec<suite::Case> = suite.cases().filter(selected).collect();
    let routes: Vec<_> = routes::ROUTES.iter().filter(|r| route.is_empty() || r.name == route).collect();
    let outcomes: Vec<Vec<Outcome>> =
        cases.par_iter().map(|case| routes.iter().map(|route| run(case, route)).collect()).collect();
    for (case, outcomes) in cases.iter().zip(outcomes) {
        for (route, outcome) in routes.iter().zip(outcomes) {
            let count = counts.entry((case.tier_index, case.tier, route.name)).or_default();
            count[outcome.index()] += 1;
            if let Some(fault) = expected.judge(&case.name, route.name, &outcome) {
                faults.push(format!("{} ({}): {fault}", case.name, route.name));
            }
            found.add(&case.name, route.name, outcome);
        }
    }
    drop(std::panic::take_hook());
    println!("{:<10} {:<14} {:>6} {:>6} {:>12}", "tier", "route", "pass", "fail", "unsupported");
    for ((_, tier, route), [pass, fail, unsupported]) in &counts {
        println!("{tier:<10} {route:<14} {pass:>6} {fail:>6} {unsupported:>12}");
    }
    if writing && !filtered {
        found.write();
        return;
    }
    if !filtered {
        faults.extend(expected.unused(&found));
    }
    assert!(!counts.is_empty(), "no case is selected");
    assert!(faults.is_empty(), "{} unexpected:\n{}", faults.len(), faults.join("\n"));
}
