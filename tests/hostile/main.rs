//! Hostile models: every one gives a typed error that says where, within a second and within the memory allowed.
//!
//! All bytes are made here. What each test asserts besides the error is in [`refused`].

mod external;
mod memory;
mod peak;
mod random;
mod runtime;
mod structure;
#[path = "../support/mod.rs"]
mod support;
mod tensors;
mod wire;
mod work;

use onrush::onnx::{LoadOptions, import};
use onrush::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// Memory that a refusal may take at most, beside what the bytes themselves take.
const MEMORY: usize = 256 << 20;

/// The time that this thread has computed, where the system tells: what else the machine does is not in it. Elsewhere
/// the time that has passed since `start`.
fn computed(start: Instant) -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = schedule.split(' ').next().and_then(|n| n.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Runs `attempt` and checks what holds for all of them: no panic (a test fails by one), one second, little memory.
fn bounded<T>(attempt: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let before = computed(start);
    let (result, peak) = peak::measure(attempt);
    let took = computed(start) - before;
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(start.elapsed() < Duration::from_secs(60), "it waited for something");
    assert!(peak < MEMORY, "it took {peak} bytes");
    result
}

/// The error of loading `bytes`, which must be of this kind and say this.
#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind, says: &[&str]) -> Error {
    refused_with(bytes, &LoadOptions::default(), kind, says)
}

#[track_caller]
fn refused_with(bytes: &[u8], options: &LoadOptions, kind: ErrorKind, says: &[&str]) -> Error {
    let result = bounded(|| import(bytes.to_vec().into(), options));
    expect(result.map(|_| ()), kind, says)
}

/// The error of a result, which must be of this kind and say this.
#[track_caller]
fn expect(result: Result<()>, kind: ErrorKind, says: &[&str]) -> Error {
    let Err(error) = result else { panic!("it was accepted") };
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{error} does not say {text:?}");
    }
    error
}
