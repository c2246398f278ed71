//! Whether a bench times anything.

/// Whether this is a run of `cargo bench`; under `cargo test` everything runs just once.
pub(crate) fn is_timed() -> bool {
    std::env::args().any(|argument| argument == "--bench") && !std::env::args().any(|argument| argument == "--test")
}
