//! A page with plots that needs nothing but itself.

use crate::report::{Record, table};
use std::fmt::Write;

const COLORS: [&str; 6] = ["#1b6ca8", "#c1440e", "#2e8b57", "#8b5fbf", "#b8860b", "#444444"];
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 50.0;

/// The records as plots over load, one line for each policy, with the table below.
pub(crate) fn html(records: &[Record]) -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>Load test</title>\
         <style>body{font:14px system-ui;margin:2em}svg{margin:1em}pre{font:12px monospace}</style><h1>Load test</h1>",
    );
    let share = |value: f64, record: &Record| value / record.capacity_per_s.max(1.0);
    page += &plot("Goodput, share of capacity", records, &|r| share(r.goodput_per_s, r));
    page += &plot("p50, ms", records, &|r| r.p50_ms);
    page += &plot("p99, ms", records, &|r| r.p99_ms);
    page += &plot("Mean batch, rows", records, &|r| r.mean_batch);
    let _ = write!(page, "<pre>{}</pre>", table(records));
    page
}

fn plot(title: &str, records: &[Record], value: &dyn Fn(&Record) -> f64) -> String {
    let top = |values: &mut dyn Iterator<Item = f64>| values.fold(1e-9, f64::max);
    let (right, high) = (top(&mut records.iter().map(|r| r.load)), top(&mut records.iter().map(value)));
    let x = |load: f64| MARGIN + load / right * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN - value / high * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!("<svg width={WIDTH} height={HEIGHT}><text x={MARGIN} y=20 font-weight=bold>{title}</text>");
    for step in 0..=4 {
        let (load, mark) = (right * f64::from(step) / 4.0, high * f64::from(step) / 4.0);
        let (end, across, along, below) = (WIDTH - MARGIN, x(load), y(mark), HEIGHT - MARGIN + 18.0);
        let _ = write!(
            svg,
            "<line x1={MARGIN} x2={end} y1={along} y2={along} stroke=#ddd /><text x=2 y={along} font-size=11>{mark:.3}</text>\
             <text x={across} y={below} font-size=11>{load:.2}</text>",
        );
    }
    let mut policies: Vec<&str> = records.iter().map(|r| r.policy.as_str()).collect();
    policies.dedup();
    for (index, policy) in policies.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let of_policy = records.iter().filter(|r| r.policy == **policy);
        let points: Vec<String> = of_policy.map(|r| format!("{:.1},{:.1}", x(r.load), y(value(r)))).collect();
        let _ = write!(
            svg,
            "<polyline points='{}' fill=none stroke='{color}' stroke-width=2 />\
             <text x={} y={} fill='{color}' font-size=11>{policy}</text>",
            points.join(" "),
            WIDTH - 140.0,
            20.0 + 14.0 * index as f64,
        );
    }
    svg + "</svg>"
}
