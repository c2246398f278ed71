//! The page that the load test writes: well-formed, complete, and in need of nothing but itself.

#[path = "../examples/load_test/behind.rs"]
mod behind;
#[expect(dead_code, reason = "only what a page shows is made up here")]
#[path = "../examples/load_test/mix.rs"]
mod mix;
#[path = "../examples/load_test/page.rs"]
mod page;
#[expect(dead_code, reason = "only what a page shows is made up here")]
#[path = "../examples/load_test/report.rs"]
mod report;
#[path = "../examples/support/mod.rs"]
mod support;

use behind::{Room, Span};
use report::Record;
use std::time::Duration;

/// Elements that HTML closes by itself.
const VOID: [&str; 1] = ["meta"];

/// The names of the elements in order; fails on whatever is not closed, or not closed in order.
fn elements(page: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!doctype html>").expect("a page of HTML");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let (text, tag) = (&rest[..start], &rest[start + 1..end]);
        let entities = text.matches("&amp;").count() + text.matches("&lt;").count() + text.matches("&gt;").count();
        assert_eq!(text.matches('&').count(), entities + text.matches("&#39;").count(), "{text}");
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed in order");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        assert!(tag.matches('\'').count() % 2 == 0 && !tag.contains("NaN") && !tag.contains("inf"), "<{tag}>");
        if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        found.push(name);
    }
    assert!(open.is_empty(), "left open: {open:?}");
    found
}

fn record(policy: &str, load: f64) -> Record {
    Record {
        policy: policy.to_owned(),
        load,
        goodput_per_s: 900.0 * load,
        p50_ms: load,
        p99_ms: 2.0 * load,
        p999_ms: 3.0 * load,
        capacity_per_s: 1000.0,
        target_ms: 5.0,
        mean_batch: 4.0 * load,
        batches: vec![(1, 3), (8, 5)],
        percentiles_ms: (1..=100).map(|p| f64::from(p) / 20.0).collect(),
        ..Record::default()
    }
}

#[test]
fn a_sweep_is_drawn_as_plots_that_need_nothing_else() {
    let loads = [0.1, 0.5, 1.0, 1.5];
    let records: Vec<Record> =
        ["first-come", "a<b & 'c'"].iter().flat_map(|policy| loads.map(|load| record(policy, load))).collect();
    let page = page::html("model <1> & \"two\".onnx", &records);
    let elements = elements(&page);
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!((count("svg"), count("script"), count("link"), count("img")), (8, 0, 0, 0));
    assert_eq!(count("polyline"), 2 * (5 + 3 + 2), "a line for each policy, three where there are quantiles");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for reference in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!outside.contains(reference), "{reference}");
    }
    for text in ["offered load, share of capacity", "milliseconds", "microseconds", "rows in a batch", "p99.9"] {
        assert!(page.contains(text), "no axis or legend says {text:?}");
    }
    assert_eq!(page.matches(">first-come</text>").count(), 6, "in the legend of each plot over load");
    assert_eq!(page.matches(">first-come at 1.50</text>").count(), 2);
}

#[test]
fn few_and_empty_records_are_drawn_too() {
    elements(&page::html("nothing", &[]));
    elements(&page::html("zeros", &[Record::default()]));
    let one = elements(&page::html("one", &[record("first-come", 0.8)]));
    assert_eq!(one.iter().filter(|element| *element == "svg").count(), 2, "no sweep, so nothing over load");
}

/// A request that arrived, began and ended at these milliseconds, in a batch of so many.
fn span(arrived: u64, began: u64, ended: u64, riders: u32) -> Span {
    let [arrived, began, ended] = [arrived, began, ended].map(Duration::from_millis);
    Span { arrived, began, ended, riders }
}

#[test]
fn a_wait_behind_equals_is_told_from_one_behind_less_urgent_work() {
    // Two workers. Both run urgent work from 10 to 20, the second one a batch of two.
    let urgent = [span(0, 5, 20, 1), span(8, 10, 30, 2), span(9, 10, 30, 2), span(7, 20, 24, 1), span(12, 36, 40, 1)];
    let room = Room::beside(urgent.iter(), 2);
    let millis = |span: &Span| (room.wait(span).as_secs_f64() * 1e3).round();
    let waits = urgent.map(|span| millis(&span));
    assert_eq!(waits, [5.0, 2.0, 1.0, 3.0, 12.0], "while a worker did not run urgent work");
    assert_eq!(Room::beside([].iter(), 2).wait(&span(3, 9, 10, 1)).as_secs_f64(), 0.006);
}
