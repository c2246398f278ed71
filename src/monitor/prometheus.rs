//! A snapshot in the text format that Prometheus scrapes (version 0.0.4). Serving it over a network is left to the host.
//!
//! Times are in seconds and sizes in their base unit, as that format wants them. Learned costs are left out: they are one
//! series for each group and row count, which is too many for a scraper; JSON has them.

use super::{Distribution, ModelSnapshot, ReplicaState, Snapshot};
use std::fmt::Write;

/// The content type of what [`prometheus`] writes.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of times: 1, 2 and 5 of each power of ten from a microsecond to ten seconds.
const TIMES: [u64; 22] = {
    let mut bounds = [0; 22];
    let (mut at, mut unit) = (0, 1000);
    while at < bounds.len() {
        bounds[at] = [unit, 2 * unit, 5 * unit][at % 3];
        if at % 3 == 2 {
            unit *= 10;
        }
        at += 1;
    }
    bounds
};

/// Upper bounds of the buckets of sizes: powers of two.
const SIZES: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

const NANOS: f64 = 1e9;

/// Names and values that tell the series of one snapshot from those of others.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Several snapshots, one for each engine of the process, as one page; `labels` tell them apart.
#[must_use]
pub fn prometheus(snapshots: &[(Labels<'_>, &Snapshot)]) -> String {
    let mut page = Page { text: String::with_capacity(8192), snapshots };
    page.requests();
    page.stages();
    page.serving();
    page.models();
    page.replicas();
    page.process();
    page.text
}

impl Snapshot {
    /// All but the learned costs in the text format that Prometheus scrapes; see [`prometheus`] for several engines.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        prometheus(&[(&[], self)])
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Page<'a> {
    text: String,
    snapshots: &'a [(Labels<'a>, &'a Snapshot)],
}

/// Writes the samples of one family for one snapshot.
struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: Labels<'a>,
}

impl Samples<'_> {
    fn put(&mut self, suffix: &str, labels: Labels<'_>, value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (at, (name, value)) in self.labels.iter().chain(labels).enumerate() {
            let _ = write!(self.text, "{}{}=\"", if at == 0 { '{' } else { ',' }, label_name(name));
            escape(value, self.text);
            self.text.push('"');
        }
        if !(self.labels.is_empty() && labels.is_empty()) {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn value(&mut self, labels: Labels<'_>, value: f64) {
        self.put("", labels, value);
    }

    fn count(&mut self, labels: Labels<'_>, value: u64) {
        self.put("", labels, value as f64);
    }

    fn histogram(&mut self, label: Option<(&str, &str)>, values: &Distribution, bounds: &[u64], unit: f64) {
        let (label, tops) = (label.as_slice(), values.up_to(bounds));
        let tops = tops.map(|(top, count)| ((top as f64 / unit).to_string(), count));
        for (le, count) in tops.chain([("+Inf".to_owned(), values.count())]) {
            self.put("_bucket", &[label, &[("le", &le)]].concat(), count as f64);
        }
        self.put("_sum", label, values.sum() as f64 / unit);
        self.put("_count", label, values.count() as f64);
    }
}

/// A label's name with everything replaced that may not stand in one.
fn label_name(name: &str) -> String {
    let fits = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (at > 0 && c.is_ascii_digit());
    let name: String = name.chars().enumerate().map(|(at, c)| if fits((at, c)) { c } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
}

impl Page<'_> {
    fn family(&mut self, name: &str, kind: Kind, help: &str, write: impl Fn(&Snapshot, &mut Samples<'_>)) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for &(labels, snapshot) in self.snapshots {
            write(snapshot, &mut Samples { text: &mut self.text, name, labels });
        }
    }

    fn requests(&mut self) {
        let help = "Requests taken in.";
        self.family("onrush_requests_accepted_total", Kind::Counter, help, |s, out| {
            out.count(&[], s.requests.accepted)
        });
        let help = "Requests that ended, by how.";
        self.family("onrush_requests_ended_total", Kind::Counter, help, |s, out| {
            let ends = [
                ("answered", s.requests.answered),
                ("failed", s.requests.failed),
                ("expired", s.requests.expired),
                ("cancelled", s.requests.cancelled),
            ];
            ends.iter().for_each(|(how, count)| out.count(&[("outcome", how)], *count));
        });
        let help = "Requests run on the caller's own thread without waiting.";
        self.family("onrush_requests_inline_total", Kind::Counter, help, |s, out| out.count(&[], s.requests.inline));
        let help = "Requests not taken in, by reason.";
        self.family("onrush_requests_refused_total", Kind::Counter, help, |s, out| {
            s.refused.by_reason().iter().for_each(|(reason, count)| out.count(&[("reason", reason)], *count));
        });
        let help = "Requests in the queue or in a running batch.";
        self.family("onrush_requests_waiting", Kind::Gauge, help, |s, out| out.count(&[], s.requests.waiting));
        let help = "Requests in the queue.";
        self.family("onrush_queue_requests", Kind::Gauge, help, |s, out| out.count(&[], s.queued));
        let help = "Bytes of payload in the queue.";
        self.family("onrush_queue_bytes", Kind::Gauge, help, |s, out| out.count(&[], s.queued_bytes));
    }

    fn stages(&mut self) {
        let help = "Time in each stage: queue per request; form, run and scatter per batch.";
        self.family("onrush_stage_seconds", Kind::Histogram, help, |s, out| {
            for (stage, times) in s.stages() {
                out.histogram(Some(("stage", stage)), times, &TIMES, NANOS);
            }
        });
        let help = "Requests in a batch.";
        self.family("onrush_batch_requests", Kind::Histogram, help, |s, out| {
            out.histogram(None, &s.batch_requests, &SIZES, 1.0);
        });
        let help = "Rows in a batch.";
        self.family("onrush_batch_rows", Kind::Histogram, help, |s, out| {
            out.histogram(None, &s.batch_rows, &SIZES, 1.0);
        });
    }

    fn serving(&mut self) {
        let help = "Batches whose run panicked or failed and was split.";
        self.family("onrush_batch_retries_total", Kind::Counter, help, |s, out| out.count(&[], s.retries));
        let help = "Workers that died and were replaced.";
        self.family("onrush_workers_replaced_total", Kind::Counter, help, |s, out| out.count(&[], s.replaced_workers));
        let help = "Moves of the feedback controller.";
        self.family("onrush_feedback_moves_total", Kind::Counter, help, |s, out| out.count(&[], s.moves_made));
    }

    fn models(&mut self) {
        let models: [(&str, &str, fn(&ModelSnapshot) -> f64); 4] = [
            ("onrush_model_batches_total", "Batches that a model ran.", |m| m.batches as f64),
            ("onrush_model_rows_total", "Rows that a model ran.", |m| m.rows as f64),
            ("onrush_model_busy_seconds_total", "Time that a model's batches took.", |m| m.busy_ns as f64 / NANOS),
            ("onrush_model_swaps_total", "Times that a model was swapped for another.", |m| m.generation as f64),
        ];
        for (name, help, value) in models {
            self.family(name, Kind::Counter, help, |s, out| {
                s.models.iter().for_each(|model| out.value(&[("model", &model.name)], value(model)));
            });
        }
        let help = "Requests of a model that ended in an answer or an error.";
        self.family("onrush_model_requests_total", Kind::Counter, help, |s, out| {
            for model in &s.models {
                out.count(&[("model", &model.name), ("outcome", "answered")], model.answered);
                out.count(&[("model", &model.name), ("outcome", "failed")], model.failed);
            }
        });
        let help = "Whether a model rests because it kept panicking.";
        self.family("onrush_model_quarantined", Kind::Gauge, help, |s, out| {
            s.models.iter().for_each(|m| out.count(&[("model", &m.name)], (m.resting_ns > 0).into()));
        });
    }

    fn replicas(&mut self) {
        let help = "Whether a replica takes batches.";
        self.family("onrush_replica_active", Kind::Gauge, help, |s, out| {
            for replica in &s.replicas {
                let active = replica.state == ReplicaState::Active;
                out.count(&[("replica", &replica.id.to_string())], active.into());
            }
        });
        let help = "Batches that a replica ran.";
        self.family("onrush_replica_batches_total", Kind::Counter, help, |s, out| {
            s.replicas.iter().for_each(|r| out.count(&[("replica", &r.id.to_string())], r.batches));
        });
        let help = "Time that a replica's batches took.";
        self.family("onrush_replica_busy_seconds_total", Kind::Counter, help, |s, out| {
            s.replicas.iter().for_each(|r| out.value(&[("replica", &r.id.to_string())], r.busy_ns as f64 / NANOS));
        });
    }

    /// There is one process whatever the number of snapshots; names as Prometheus' own client libraries have them.
    fn process(&mut self) {
        let Some((_, snapshot)) = self.snapshots.iter().find(|(_, snapshot)| snapshot.process.is_known()) else {
            return;
        };
        let once: [(Labels<'_>, &Snapshot); 1] = [(&[], *snapshot)];
        let mut page = Page { text: std::mem::take(&mut self.text), snapshots: &once };
        let help = "Processor time of the process, user and system.";
        page.family("process_cpu_seconds_total", Kind::Counter, help, |s, out| {
            s.process.cpu_seconds.into_iter().for_each(|seconds| out.value(&[], seconds));
        });
        let help = "Resident memory of the process.";
        page.family("process_resident_memory_bytes", Kind::Gauge, help, |s, out| {
            s.process.resident_bytes.into_iter().for_each(|bytes| out.count(&[], bytes));
        });
        self.text = page.text;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Histogram, ModelStats, Process, ReplicaSnapshot};
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// A sample as a scraper reads it: name, labels, value.
    type Sample = (String, Vec<(String, String)>, f64);

    fn is_name(name: &str) -> bool {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    }

    /// `name="value",...}` after the opening brace; what stands behind the closing one.
    fn read_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
        let mut labels = Vec::new();
        loop {
            let (name, value) = rest.split_once("=\"").unwrap();
            assert!(is_name(name) && !name.contains(':'), "label {name}");
            let (mut text, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("an escape that the format does not know: {c}"),
                    }),
                    (_, c) => text.push(c),
                }
            };
            labels.push((name.to_owned(), text));
            match value[end + 1..].split_at(1) {
                (",", more) => rest = more,
                ("}", after) => return (labels, after),
                (other, _) => panic!("{other:?} after a label"),
            }
        }
    }

    fn read_sample(line: &str) -> Sample {
        let at = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(at);
        assert!(is_name(name), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(inside) => read_labels(inside),
            None => (Vec::new(), rest),
        };
        let value = value.strip_prefix(' ').unwrap();
        (name.to_owned(), labels, value.parse().unwrap())
    }

    /// Reads a page by the rules of the format, and checks what they demand of families and histograms.
    fn parse(page: &str) -> Vec<Sample> {
        assert!(page.ends_with('\n'));
        let (mut kinds, mut family, mut samples, mut seen) = (HashMap::new(), "", Vec::new(), HashSet::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty() && !kinds.contains_key(name), "{name} comes twice");
                family = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family, "the type follows the help");
                kinds.insert(name, kind);
            } else {
                let sample = read_sample(line);
                let (kind, name) = (kinds[family], sample.0.as_str());
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} stands in {family}"));
                match kind {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{name}"),
                    "counter" => assert!(suffix.is_empty() && name.ends_with("_total") && sample.2 >= 0.0, "{name}"),
                    _ => assert!(suffix.is_empty() && !name.ends_with("_total"), "{name}"),
                }
                assert!(seen.insert(format!("{name}{:?}", sample.1)), "{line} comes twice");
                samples.push(sample);
            }
        }
        check_histograms(&samples);
        samples
    }

    fn check_histograms(samples: &[Sample]) {
        let mut last: Option<(Vec<(String, String)>, f64, f64)> = None;
        for (name, labels, value) in samples {
            if !name.ends_with("_bucket") {
                continue;
            }
            let (le, others) = labels.split_last().unwrap();
            let bound: f64 = le.1.parse().unwrap();
            if let Some((before, top, count)) = last.take().filter(|(before, ..)| before == others) {
                assert!(bound > top && *value >= count, "{before:?}: buckets are cumulative and in order");
            }
            if bound.is_infinite() {
                let total = name.replace("_bucket", "_count");
                let total = samples.iter().find(|(n, l, _)| *n == total && l == others).unwrap();
                assert_eq!(total.2, *value, "the last bucket holds all");
            } else {
                last = Some((others.to_vec(), bound, *value));
            }
        }
    }

    fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
        let same = |l: &[(String, String)]| l.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(labels.iter().copied());
        samples.iter().find(|(n, l, _)| n == name && same(l)).unwrap_or_else(|| panic!("no {name} {labels:?}")).2
    }

    fn snapshot() -> Snapshot {
        let (times, sizes) = (Histogram::new(), Histogram::new());
        [500, 1_000, 40_000, 3_000_000, 60_000_000_000].iter().for_each(|&nanos| times.record(nanos));
        [1, 8, 8, 40, 5000].iter().for_each(|&rows| sizes.record(rows));
        let mut snapshot = Snapshot { queued: 4, queued_bytes: 640, retries: 2, ..Snapshot::default() };
        snapshot.requests.accepted = 9;
        snapshot.requests.answered = 5;
        snapshot.refused.full = 3;
        snapshot.refused.deadline = 7;
        snapshot.models = vec![ModelSnapshot::new("digits", 1, &ModelStats::default())];
        let replica =
            |id| ReplicaSnapshot { id, state: ReplicaState::Active, running: 0, batches: 3 + id, busy_ns: 500 };
        snapshot.replicas = vec![replica(0), replica(1)];
        times.add_to(&mut snapshot.run);
        sizes.add_to(&mut snapshot.batch_rows);
        snapshot
    }

    #[test]
    fn a_scraper_reads_back_what_was_counted() {
        let samples = parse(&snapshot().to_prometheus());
        assert_eq!(value(&samples, "onrush_requests_accepted_total", &[]), 9.0);
        assert_eq!(value(&samples, "onrush_requests_ended_total", &[("outcome", "answered")]), 5.0);
        assert_eq!(value(&samples, "onrush_requests_refused_total", &[("reason", "full")]), 3.0);
        assert_eq!(value(&samples, "onrush_requests_refused_total", &[("reason", "deadline")]), 7.0);
        assert_eq!(value(&samples, "onrush_queue_requests", &[]), 4.0);
        assert_eq!(value(&samples, "onrush_batch_retries_total", &[]), 2.0);
        assert_eq!(value(&samples, "onrush_model_requests_total", &[("model", "digits"), ("outcome", "failed")]), 0.0);
        assert_eq!(value(&samples, "onrush_replica_batches_total", &[("replica", "1")]), 4.0);
        let run = |le: &str| value(&samples, "onrush_stage_seconds_bucket", &[("stage", "run"), ("le", le)]);
        assert_eq!((run("0.000001023"), run("0.000051199"), run("+Inf")), (2.0, 3.0, 5.0));
        assert_eq!(value(&samples, "onrush_stage_seconds_count", &[("stage", "queue")]), 0.0);
        let sum = value(&samples, "onrush_stage_seconds_sum", &[("stage", "run")]);
        assert!((sum - 60.0030415).abs() < 1e-9, "{sum}");
        let rows = |le: &str| value(&samples, "onrush_batch_rows_bucket", &[("le", le)]);
        assert_eq!((rows("1"), rows("8"), rows("16"), rows("+Inf")), (1.0, 3.0, 3.0, 5.0));
        assert!(!samples.iter().any(|(name, ..)| name.starts_with("process_")), "unknown is left out, not zero");
    }

    #[test]
    fn labels_tell_engines_apart_and_are_escaped() {
        let (mut first, second) = (snapshot(), Snapshot::default());
        first.process = Process { cpu_seconds: Some(1.25), resident_bytes: Some(4096) };
        let odd = "a \"quoted\" back\\slash\nand a line {x=\"1\"} 7";
        let page = prometheus(&[(&[("engine", odd)], &first), (&[("engine", "two"), ("1-x", "y")], &second)]);
        let samples = parse(&page);
        assert_eq!(value(&samples, "onrush_requests_accepted_total", &[("engine", odd)]), 9.0);
        assert_eq!(value(&samples, "onrush_requests_accepted_total", &[("engine", "two"), ("__x", "y")]), 0.0);
        assert_eq!(value(&samples, "process_cpu_seconds_total", &[]), 1.25);
        assert_eq!(value(&samples, "process_resident_memory_bytes", &[]), 4096.0);
    }
}
