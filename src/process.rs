//! What the operating system says of this process: the part of a snapshot that takes input, kept out of `monitor`.
//!
//! Linux only, from `/proc`; elsewhere nothing is known, and a snapshot says so.

use crate::monitor::Process;

/// Processor time and resident memory of this process now; each `None` where it cannot be told.
pub(crate) fn usage() -> Process {
    Process {
        cpu_seconds: std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
        resident_bytes: std::fs::read_to_string("/proc/self/statm").ok().and_then(|statm| resident_bytes(&statm)),
    }
}

/// Keys of the kernel's auxiliary vector (`getauxval(3)`).
const PAGE_SIZE: usize = 6;
const CLOCK_TICKS: usize = 17;

/// What the kernel told the process when it started: pairs of words, the key first.
fn auxiliary(vector: &[u8], wanted: usize) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    let mut pairs = vector.chunks_exact(2 * WORD).map(|pair| pair.split_at(WORD));
    pairs.find_map(|(key, value)| (word(key)? == wanted).then(|| word(value))?)
}

fn told(wanted: usize) -> Option<f64> {
    let vector = std::fs::read("/proc/self/auxv").ok()?;
    auxiliary(&vector, wanted).filter(|&value| value > 0).map(|value| value as f64)
}

/// User and system time: fields 14 and 15 of `proc_pid_stat(5)`. The second field is the program's name in parentheses and
/// may hold anything, parentheses too, so counting starts behind the last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some(cpu_ticks(stat)? as f64 / told(CLOCK_TICKS)?)
}

/// Resident pages: the second field of `proc_pid_statm(5)`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn resident_bytes(statm: &str) -> Option<u64> {
    Some((resident_pages(statm)? as f64 * told(PAGE_SIZE)?) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat =
            "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 731 19 0 0 20 0 9 0 100 1000 50 18446744073709551615";
        assert_eq!(cpu_ticks(stat), Some(750));
        assert_eq!(resident_pages("9000 777 500 1 0 300 0"), Some(777));
        assert_eq!((cpu_ticks("42 (x) S 1"), resident_pages("9000")), (None, None));
    }

    #[test]
    fn the_auxiliary_vector_is_read_by_key() {
        let vector: Vec<u8> = [6_usize, 4096, 17, 100, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!((auxiliary(&vector, PAGE_SIZE), auxiliary(&vector, CLOCK_TICKS)), (Some(4096), Some(100)));
        assert_eq!((auxiliary(&vector, 5), auxiliary(&[1, 2], 6)), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        let before = usage();
        let mut held = vec![1_u8; 64 << 20];
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(40) {
            held.iter_mut().step_by(4096).for_each(|byte| *byte = byte.wrapping_mul(3));
        }
        let after = usage();
        assert!(after.cpu_seconds.unwrap() > before.cpu_seconds.unwrap());
        assert!(after.resident_bytes.unwrap() > 32 << 20, "{after:?}, {}", held[0]);
    }
}
