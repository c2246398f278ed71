//! What is known not to pass, and why: `case route outcome reason`, a line each; `*` is every route.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Pass,
    Fail(String),
    Unsupported(String),
}

impl Outcome {
    pub(crate) fn index(&self) -> usize {
        match self {
            Outcome::Pass => 0,
            Outcome::Fail(_) => 1,
            Outcome::Unsupported(_) => 2,
        }
    }

    fn word(&self) -> &'static str {
        ["pass", "fail", "unsupported"][self.index()]
    }

    fn reason(&self) -> &str {
        match self {
            Outcome::Pass => "",
            Outcome::Fail(reason) | Outcome::Unsupported(reason) => reason,
        }
    }
}

/// The outcomes other than a pass, by case and route.
#[derive(Default)]
pub(crate) struct Ledger(BTreeMap<(String, String), (String, String)>);

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance_ledger.txt")
}

impl Ledger {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let mut entries = BTreeMap::new();
        for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
            let mut words = line.splitn(4, ' ').map(str::to_owned);
            let entry = (|| Some((words.next()?, words.next()?, words.next()?, words.next()?)))();
            let (case, route, outcome, reason) =
                entry.unwrap_or_else(|| panic!("a ledger line without reason: {line}"));
            entries.insert((case, route), (outcome, reason));
        }
        Ledger(entries)
    }

    fn get(&self, case: &str, route: &str) -> Option<&str> {
        let entry = |route: &str| self.0.get(&(case.to_owned(), route.to_owned()));
        entry(route).or_else(|| entry("*")).map(|(outcome, _)| outcome.as_str())
    }

    /// What is wrong with an outcome, where it is not the expected one.
    pub(crate) fn judge(&self, case: &str, route: &str, outcome: &Outcome) -> Option<String> {
        match self.get(case, route) {
            None if outcome.index() == 0 => None,
            None => Some(format!("{}: {}", outcome.word(), outcome.reason())),
            Some(expected) if expected == outcome.word() => None,
            Some(expected) => Some(format!("{}, the ledger says {expected}; {}", outcome.word(), outcome.reason())),
        }
    }

    /// Lines about cases or routes that do not exist.
    pub(crate) fn unused(&self, found: &Ledger) -> Vec<String> {
        let known = |case: &str| found.0.keys().any(|(c, _)| c == case);
        self.0.keys().filter(|(case, _)| !known(case)).map(|(c, _)| format!("{c}: in the ledger, but passes")).collect()
    }

    pub(crate) fn add(&mut self, case: &str, route: &str, outcome: Outcome) {
        if outcome.index() > 0 {
            let reason = outcome.reason().split('\n').next().unwrap_or_default().to_owned();
            self.0.insert((case.to_owned(), route.to_owned()), (outcome.word().to_owned(), reason));
        }
    }

    /// Writes the ledger anew; what fails by every route is one line.
    pub(crate) fn write(&self) {
        let mut text =
            String::from("# Cases of the ONNX suite that are known not to pass: case route outcome reason.\n");
        let routes = super::routes::ROUTES.len();
        for ((case, route), (outcome, reason)) in &self.0 {
            let mut same = self.0.iter().filter(|((c, _), (o, _))| c == case && o == outcome);
            let everywhere = same.clone().count() == routes;
            let first = same.next().is_some_and(|((_, r), _)| r == route);
            match (everywhere, first) {
                (true, true) => writeln!(text, "{case} * {outcome} {reason}").expect("a string takes text"),
                (true, false) => {}
                (false, _) => writeln!(text, "{case} {route} {outcome} {reason}").expect("a string takes text"),
            }
        }
        std::fs::write(path(), text).expect("the ledger can be written");
    }
}
