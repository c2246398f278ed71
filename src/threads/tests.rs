//! Regions by the thousand, parts that panic, teams within teams, pools that are never started.

use super::*;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[test]
fn one_thread_starts_no_pool() {
    let threads = Threads::serial();
    let ran = AtomicUsize::new(0);
    let work = |_: usize, _: usize| {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    threads.team(8, &work, |team| {
        assert_eq!(team.members(), 1);
        team.region(0, 3).unwrap();
    });
    assert_eq!(ran.into_inner(), 3);
    assert!(!threads.started());
}

#[test]
fn every_part_of_every_region_runs_once() {
    for count in [2, 3, 5] {
        let threads = Threads::new(count);
        assert!(!threads.started());
        let mut sums = vec![0u64; MOST_PARTS];
        for _ in 0..20 {
            let slots: Vec<AtomicU64> = (0..MOST_PARTS).map(|_| AtomicU64::new(0)).collect();
            let work = |tag: usize, part: usize| {
                slots[part].fetch_add(tag as u64 + 1, Ordering::Relaxed);
            };
            threads.team(count, &work, |team| {
                for tag in 0..500 {
                    let parts = 1 + tag % MOST_PARTS;
                    team.region(tag, parts).unwrap();
                    if tag % 100 == 0 {
                        // Long enough for the helpers to sleep.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
            for (sum, slot) in sums.iter_mut().zip(slots) {
                *sum += slot.into_inner();
            }
        }
        let expected =
            |part: usize| (0..500).filter(|tag| tag % MOST_PARTS >= part).map(|tag| tag as u64 + 1).sum::<u64>();
        for (part, sum) in sums.iter().enumerate() {
            assert_eq!(*sum, 20 * expected(part), "part {part} of {count} threads");
        }
    }
}

#[test]
fn what_parts_write_is_seen_by_the_leader() {
    let threads = Threads::new(3);
    let cells: Vec<Mutexed> = (0..3).map(|_| Mutexed::default()).collect();
    let work = |tag: usize, part: usize| *cells[part].0.lock() = tag;
    threads.team(3, &work, |team| {
        for tag in 1..3000 {
            team.region(tag, 3).unwrap();
            assert!(cells.iter().all(|cell| *cell.0.lock() == tag));
        }
    });
}

#[derive(Default)]
struct Mutexed(parking_lot::Mutex<usize>);

#[test]
fn a_panic_in_a_part_is_an_error_and_the_team_goes_on() {
    let threads = Threads::new(2);
    let work = |tag: usize, part: usize| assert!(tag != 7 || part == 0, "as planned");
    threads.team(2, &work, |team| {
        for tag in 0..50 {
            assert_eq!(team.region(tag, 2).is_err(), tag == 7, "region {tag}");
        }
    });
    threads.team(2, &|_, _| {}, |team| assert!(team.region(0, 2).is_ok()));
}

#[test]
fn a_panic_of_the_leader_lets_the_helpers_go() {
    let threads = Threads::new(2);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        threads.team(2, &|_, _| {}, |team| {
            team.region(0, 2).unwrap();
            panic!("as planned");
        })
    }));
    assert!(caught.is_err());
    // The helper is claimed again once it has gone.
    while threads.0.free.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn teams_within_teams_and_more_teams_than_threads() {
    let threads = Threads::new(2);
    let ran = AtomicUsize::new(0);
    let inner = |_: usize, _: usize| {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    let outer = |_: usize, _: usize| threads.team(2, &inner, |team| team.region(0, 4).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    threads.team(2, &outer, |team| team.region(0, 2).unwrap());
                }
            });
        }
    });
    assert_eq!(ran.into_inner(), 4 * 50 * 2 * 4);
}

#[test]
fn a_busy_pool_delays_nobody() {
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(parking_lot::Mutex::new(blocked));
    for _ in 0..2 {
        let blocked = blocked.clone();
        pool.spawn(move || {
            let _ = blocked.lock().recv();
        });
    }
    let threads = Threads::of_pool(pool.clone(), None);
    assert_eq!(threads.count(), 2);
    let ran = AtomicUsize::new(0);
    let work = |_: usize, _: usize| {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    threads.team(2, &work, |team| team.region(0, 2).unwrap());
    assert_eq!(ran.load(Ordering::Relaxed), 2);
    drop(release);
    // From inside the pool as well.
    pool.install(|| threads.team(2, &work, |team| team.region(0, 2).unwrap()));
    assert_eq!(ran.into_inner(), 4);
}

#[test]
fn a_helper_that_sleeps_is_free_for_the_next_run() {
    let threads = Threads::new(2);
    let work = |_: usize, _: usize| std::thread::sleep(Duration::from_micros(50));
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        threads.team(2, &work, |team| {
            team.region(0, 2).unwrap();
            // Meanwhile the helper has come and lies down.
            std::thread::sleep(Duration::from_millis(1));
        });
        if threads.0.free.load(Ordering::Acquire) == 1 {
            return;
        }
    }
    panic!("the helper is never free at once");
}

#[test]
fn every_claim_is_given_back() {
    let threads = Threads::new(4);
    for _ in 0..200 {
        threads.team(4, &|_, _| {}, |team| team.region(0, 4).unwrap());
    }
    let start = std::time::Instant::now();
    while threads.0.free.load(Ordering::Acquire) != 3 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} helpers are free", threads.0.free);
        std::thread::yield_now();
    }
}
