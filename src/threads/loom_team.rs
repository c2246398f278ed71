//! The protocol of a team under the model checker: one leader, one helper who may come late or never in time, regions of two
//! parts.

use super::Threads;
use super::team::with_team;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn loom_every_part_of_a_region_runs_once_and_its_leader_sees_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let ran: Arc<[AtomicUsize; 2]> = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let work = |tag: usize, part: usize| {
            assert_eq!(ran[part].load(Ordering::Relaxed), tag, "part {part} of region {tag}");
            ran[part].fetch_add(1, Ordering::Relaxed);
        };
        let threads = Threads::new(2);
        assert_eq!(threads.claim(5), 1);
        let helper = with_team(&threads, 1, &work, |team| {
            let helper = team.helper(0);
            let helper = loom::thread::spawn(move || helper.help());
            for tag in 0..2 {
                team.region(tag, 2).unwrap();
                assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == tag + 1));
            }
            helper
        });
        helper.join().unwrap();
        assert_eq!((threads.claim(5), threads.claim(5)), (1, 0), "the helper is free again, once");
    });
}
