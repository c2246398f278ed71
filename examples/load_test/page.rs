//! A page with plots that needs nothing but itself: inline SVG, no script, nothing loaded from elsewhere.

use crate::report::{Record, table};
use std::fmt::Write;

const COLORS: [&str; 6] = ["#1b6ca8", "#c1440e", "#2e8b57", "#8b5fbf", "#b8860b", "#444444"];
const GRAY: &str = "#777777";
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 340.0;
/// Room beside the curves: for the marks and the name of the axis, and for the name below.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 22.0;
const BELOW: f64 = 46.0;
const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8><title>Load test</title><style>\
    body{font:15px system-ui,sans-serif;margin:2em auto;max-width:1200px;color:#222}\
    svg{margin:.4em;background:#fafafa;border:1px solid #e4e4e4}pre{font:12px monospace;overflow-x:auto}\
    text{font:11px system-ui,sans-serif;fill:#333}.title{font-size:13px;font-weight:bold}</style></head><body>";

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
    let Some(first) = records.first() else { return page + "</body></html>" };
    let _ = write!(
        page,
        "<p>Capacity {:.0} answers per second; answers within {:.3} ms count as good. Latency counts from the scheduled \
         arrival.</p>",
        first.capacity_per_s, first.target_ms
    );
    if records.iter().any(|record| record.load != first.load) {
        let share = |value: f64, record: &Record| value / record.capacity_per_s.max(1.0);
        let goodput: [Value<'_>; 1] = [("", &|r| share(r.goodput_per_s, r))];
        page += &over_load("Goodput over load", "share of capacity", records, &goodput);
        let latencies: [Value<'_>; 3] = [("p50", &|r| r.p50_ms), ("p99", &|r| r.p99_ms), ("p99.9", &|r| r.p999_ms)];
        page += &over_load("Latency over load", "milliseconds", records, &latencies);
        page += &over_load("Shed over load: refused or expired", "share of the offered", records, &[("", &|r| r.shed)]);
        page += &over_load("Mean batch over load", "rows", records, &[("", &|r| r.mean_batch)]);
        page += &over_load("p99 of a refusal over load", "microseconds", records, &[("", &|r| r.refusal_p99_us)]);
        page += &over_load("Mean wait over load", "milliseconds", records, &[("", &|r| r.mean_wait_ms)]);
    }
    let busiest = |policy: &&str| {
        let own = records.iter().filter(|record| record.policy == **policy);
        own.max_by(|a, b| a.load.total_cmp(&b.load))
    };
    let policies = policies(records);
    let busiest: Vec<&Record> = policies.iter().filter_map(busiest).collect();
    page += &latencies(&busiest);
    page += &batches(&busiest);
    let _ = write!(page, "<h2>All figures</h2><pre>{}</pre></body></html>", escaped(&table(records)));
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
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

/// The name of what is drawn, where there are several of one policy, and how it is read off a record.
type Value<'a> = (&'a str, &'a dyn Fn(&Record) -> f64);

fn over_load(title: &str, up: &str, records: &[Record], values: &[Value<'_>]) -> String {
    let mut lines = Vec::new();
    for (index, policy) in policies(records).into_iter().enumerate() {
        for ((_, value), dashes) in values.iter().zip(["", "6 3", "2 3"]) {
            let own = records.iter().filter(|record| record.policy == policy);
            let points = own.map(|record| (record.load, value(record))).collect();
            let name = if dashes.is_empty() { policy.to_owned() } else { String::new() };
            lines.push(Line { name, color: COLORS[index % COLORS.len()], dashes, points });
        }
    }
    for ((name, _), dashes) in values.iter().zip(["", "6 3", "2 3"]) {
        lines.push(Line { name: (*name).to_owned(), color: GRAY, dashes, points: Vec::new() });
    }
    plot(title, "offered load, share of capacity", up, &lines)
}

/// The share of answers over their latency, at the highest load of each policy.
fn latencies(records: &[&Record]) -> String {
    let line = |(index, record): (usize, &&Record)| Line {
        name: format!("{} at {:.2}", record.policy, record.load),
        color: COLORS[index % COLORS.len()],
        dashes: "",
        points: record.percentiles_ms.iter().zip(1..).map(|(ms, p)| (*ms, f64::from(p) / 100.0)).collect(),
    };
    let lines: Vec<Line> = records.iter().enumerate().map(line).collect();
    plot("Answers within a latency", "latency, milliseconds", "share of the answers", &lines)
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
    let lines: Vec<Line> = records.iter().enumerate().map(line).collect();
    plot("Batches by their rows", "rows in a batch", "share of the batches", &lines)
}

/// Where the marks of an axis from zero to `top` or a little above stand, with as many digits as they need.
fn marks(top: f64) -> Vec<(f64, String)> {
    let power = 10_f64.powf((top / 5.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|part| part * power).into_iter().find(|step| step * 5.0 >= top * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let digits = (1 - step.log10().floor() as i32).clamp(0, 6) as usize;
    let digits = if step >= 1.0 && step.fract() == 0.0 { 0 } else { digits };
    let count = (top / step - 1e-3).ceil().max(1.0) as usize;
    (0..=count).map(|at| at as f64 * step).map(|value| (value, format!("{value:.digits$}"))).collect()
}

/// The names of the lines in rows above the curves: their SVG, and how many rows they take.
fn legend(lines: &[Line]) -> (String, f64) {
    let (mut svg, mut at, mut row) = (String::new(), LEFT, 0.0);
    for Line { name, color, dashes, .. } in lines.iter().filter(|line| !line.name.is_empty()) {
        let width = 34.0 + 6.4 * name.chars().count() as f64;
        if at + width > WIDTH - RIGHT && at > LEFT {
            (at, row) = (LEFT, row + 1.0);
        }
        let y = 36.0 + 15.0 * row;
        let _ = write!(
            svg,
            "<line x1='{at:.1}' x2='{:.1}' y1='{y}' y2='{y}' stroke='{color}' stroke-width='2' \
             stroke-dasharray='{dashes}'/><text x='{:.1}' y='{}'>{}</text>",
            at + 20.0,
            at + 25.0,
            y + 4.0,
            escaped(name)
        );
        at += width;
    }
    (svg, row + 1.0)
}

fn plot(title: &str, across: &str, up: &str, lines: &[Line]) -> String {
    let top = |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).fold(1e-9, f64::max);
    let (columns, levels) = (marks(top(|point| point.0)), marks(top(|point| point.1)));
    let last = |marks: &[(f64, String)]| marks.last().map_or(1.0, |mark| mark.0);
    let (right, high) = (last(&columns), last(&levels));
    let (legend, rows) = legend(lines);
    let (above, floor, end) = (36.0 + 15.0 * rows, HEIGHT - BELOW, WIDTH - RIGHT);
    let x = |value: f64| LEFT + value / right * (end - LEFT);
    let y = |value: f64| floor - value / high * (floor - above);
    let title = escaped(title);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}' \
         role='img' aria-label='{title}'><text class='title' x='{LEFT}' y='20'>{title}</text>{legend}",
    );
    for (value, mark) in &levels {
        let height = y(*value);
        let _ = write!(
            svg,
            "<line x1='{LEFT}' x2='{end}' y1='{height:.1}' y2='{height:.1}' stroke='#ddd'/>\
             <text x='{}' y='{:.1}' text-anchor='end'>{mark}</text>",
            LEFT - 6.0,
            height + 4.0
        );
    }
    for (value, mark) in &columns {
        let (place, below) = (x(*value), floor + 5.0);
        let _ = write!(
            svg,
            "<line x1='{place:.1}' x2='{place:.1}' y1='{floor}' y2='{below}' stroke='#888'/>\
             <text x='{place:.1}' y='{}' text-anchor='middle'>{mark}</text>",
            floor + 17.0
        );
    }
    let (middle, center) = ((LEFT + end) / 2.0, (above + floor) / 2.0);
    let _ = write!(
        svg,
        "<text x='{middle:.1}' y='{}' text-anchor='middle'>{}</text>\
         <text x='14' y='{center:.1}' text-anchor='middle' transform='rotate(-90 14 {center:.1})'>{}</text>",
        HEIGHT - 8.0,
        escaped(across),
        escaped(up)
    );
    for Line { color, dashes, points, .. } in lines.iter().filter(|line| !line.points.is_empty()) {
        let places: Vec<String> = points.iter().map(|&(h, v)| format!("{:.1},{:.1}", x(h), y(v))).collect();
        let _ = write!(
            svg,
            "<polyline points='{}' fill='none' stroke='{color}' stroke-width='1.8' stroke-dasharray='{dashes}'/>",
            places.join(" "),
        );
    }
    svg + "</svg>"
}
