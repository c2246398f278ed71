//! A page with plots that needs nothing but itself: inline SVG, no script, nothing loaded from elsewhere.

use crate::report::{Record, table};
use std::fmt::Write;

const COLORS: [&str; 6] = ["#1b6ca8", "#c1440e", "#2e8b57", "#8b5fbf", "#b8860b", "#444444"];
const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 52.0;
const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Load test</title><style>\
    body{font:15px system-ui,sans-serif;margin:2em auto;max-width:1160px;color:#222}\
    svg{margin:.4em;background:#fafafa;border:1px solid #e4e4e4}pre{font:12px monospace;overflow-x:auto}\
    text{font:11px system-ui,sans-serif;fill:#333}.title{font-size:13px;font-weight:bold}</style>";

/// A line of a plot.
struct Line {
    /// As the legend has it; empty for a line that has its color from another.
    name: String,
    color: &'static str,
    dashes: &'static str,
    points: Vec<(f64, f64)>,
}

/// The records as plots, one color for each policy, with the table below.
pub(crate) fn html(title: &str, records: &[Record]) -> String {
    let mut page = format!("{HEAD}<h1>Load test of {}</h1>", escaped(title));
    let Some(first) = records.first() else { return page };
    let _ = write!(
        page,
        "<p>Capacity {:.0} answers per second; answers within {:.3} ms count as good. Latency counts from the scheduled \
         arrival.</p>",
        first.capacity_per_s, first.target_ms
    );
    if records.iter().any(|record| record.load != first.load) {
        let share = |value: f64, record: &Record| value / record.capacity_per_s.max(1.0);
        page +=
            &over_load("Goodput over load, both as a share of capacity", records, &[&|r| share(r.goodput_per_s, r)]);
        page += &over_load(
            "Latency over load, ms: p50, p99 (dashed), p99.9 (dotted)",
            records,
            &[&|r| r.p50_ms, &|r| r.p99_ms, &|r| r.p999_ms],
        );
        page +=
            &over_load("Shed over load: refused or expired, as a share of what was offered", records, &[&|r| r.shed]);
        page += &over_load("Mean batch over load, rows", records, &[&|r| r.mean_batch]);
        page += &over_load("p99 of a refusal over load, microseconds", records, &[&|r| r.refusal_p99_us]);
        page += &over_load("Mean wait over load, ms", records, &[&|r| r.mean_wait_ms]);
    }
    let busiest = |policy: &&str| {
        let own = records.iter().filter(|record| record.policy == **policy);
        own.max_by(|a, b| a.load.total_cmp(&b.load))
    };
    let policies = policies(records);
    let busiest: Vec<&Record> = policies.iter().filter_map(busiest).collect();
    page += &latencies(&busiest);
    page += &batches(&busiest);
    let _ = write!(page, "<h2>All figures</h2><pre>{}</pre></html>", escaped(&table(records)));
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn policies(records: &[Record]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if !names.contains(&record.policy.as_str()) {
            names.push(&record.policy);
        }
    }
    names
}

fn over_load(title: &str, records: &[Record], values: &[&dyn Fn(&Record) -> f64]) -> String {
    let mut lines = Vec::new();
    for (index, policy) in policies(records).into_iter().enumerate() {
        for (value, dashes) in values.iter().zip(["", "6 3", "2 3"]) {
            let own = records.iter().filter(|record| record.policy == policy);
            let points = own.map(|record| (record.load, value(record))).collect();
            let name = if dashes.is_empty() { policy.to_owned() } else { String::new() };
            lines.push(Line { name, color: COLORS[index % COLORS.len()], dashes, points });
        }
    }
    plot(title, &lines)
}

/// The share of answers over their latency, at the highest load of each policy.
fn latencies(records: &[&Record]) -> String {
    let line = |(index, record): (usize, &&Record)| Line {
        name: format!("{} at {:.2}", record.policy, record.load),
        color: COLORS[index % COLORS.len()],
        dashes: "",
        points: record.percentiles_ms.iter().zip(1..).map(|(ms, p)| (*ms, f64::from(p) / 100.0)).collect(),
    };
    plot("Share of the answers within a latency in ms", &records.iter().enumerate().map(line).collect::<Vec<_>>())
}

/// How many batches had so many rows, at the highest load of each policy: steps, so that policies can be compared.
fn batches(records: &[&Record]) -> String {
    let line = |(index, record): (usize, &&Record)| {
        let all = record.batches.iter().map(|batch| batch.1).sum::<u64>().max(1) as f64;
        let steps = record.batches.iter().flat_map(|&(rows, count)| {
            let (rows, share) = (rows as f64, count as f64 / all);
            [(rows - 0.5, 0.0), (rows - 0.5, share), (rows + 0.5, share), (rows + 0.5, 0.0)]
        });
        let (name, color) = (format!("{} at {:.2}", record.policy, record.load), COLORS[index % COLORS.len()]);
        Line { name, color, dashes: "", points: steps.collect() }
    };
    plot("Share of the batches by their rows", &records.iter().enumerate().map(line).collect::<Vec<_>>())
}

/// A number with as many digits as its size wants.
fn mark(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn plot(title: &str, lines: &[Line]) -> String {
    let top = |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).fold(1e-9, f64::max);
    let (right, high) = (top(|point| point.0), top(|point| point.1));
    let x = |value: f64| MARGIN + value / right * (WIDTH - 1.5 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN * 0.7 - value / high * (HEIGHT - 1.6 * MARGIN);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' role='img'>\
         <text class='title' x='{MARGIN}' y='20'>{}</text>",
        escaped(title)
    );
    for step in 0..=4 {
        let (across, up) = (right * f64::from(step) / 4.0, high * f64::from(step) / 4.0);
        let (height, end) = (y(up), WIDTH - MARGIN / 2.0);
        let _ = write!(
            svg,
            "<line x1='{MARGIN}' x2='{end}' y1='{height:.1}' y2='{height:.1}' stroke='#ddd'/>\
             <text x='4' y='{:.1}'>{}</text>\
             <text x='{:.1}' y='{}' text-anchor='middle'>{}</text>",
            height + 4.0,
            mark(up),
            x(across),
            HEIGHT - 10.0,
            mark(across),
        );
    }
    let mut named = 0.0;
    for Line { name, color, dashes, points } in lines {
        let places: Vec<String> = points.iter().map(|&(h, v)| format!("{:.1},{:.1}", x(h), y(v))).collect();
        let _ = write!(
            svg,
            "<polyline points='{}' fill='none' stroke='{color}' stroke-width='1.8' stroke-dasharray='{dashes}'/>\
             <text x='{}' y='{}' style='fill:{color}'>{}</text>",
            places.join(" "),
            MARGIN + 8.0,
            38.0 + 13.0 * named,
            escaped(name),
        );
        named += f64::from(u8::from(!name.is_empty()));
    }
    svg + "</svg>"
}
