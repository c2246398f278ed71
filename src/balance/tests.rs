//! What every balancer must keep; a new one joins by a line in [`balancers`].

use super::sim::{Arrival, Scenario, simulate};
use super::*;
use crate::clock::Time;

fn balancers() -> Vec<Box<dyn Balancer>> {
    vec![
        Box::new(RoundRobin::new()),
        Box::new(LeastLoaded),
        Box::new(TwoChoices::new(1)),
        Box::new(Locality::new(Duration::from_micros(1))),
    ]
}

/// Those that look at the work.
fn informed() -> Vec<Box<dyn Balancer>> {
    balancers().into_iter().filter(|balancer| balancer.name() != "round-robin").collect()
}

#[test]
fn equal_work_is_spread_evenly() {
    for mut balancer in balancers() {
        let mut replicas: Vec<Load> = (0..5).map(Load::idle).collect();
        for request in 0..1000 {
            let chosen = balancer.choose(request % 50, &replicas);
            replicas[chosen].requests += 1;
            replicas[chosen].work += Duration::from_micros(1);
        }
        let name = balancer.name();
        assert!(replicas.iter().all(|load| (150..=250).contains(&load.requests)), "{name}: {replicas:?}");
    }
}

#[test]
fn a_lone_replica_takes_everything() {
    for mut balancer in balancers() {
        assert!((0..20).all(|group| balancer.choose(group, &[Load::idle(7)]) == 0), "{}", balancer.name());
    }
}

#[test]
fn a_choice_is_a_position() {
    for mut balancer in balancers() {
        for replicas in 1..9_u64 {
            let mut loads: Vec<Load> = (0..replicas).map(|id| Load::idle(id * id)).collect();
            for group in 0..40 {
                let chosen = balancer.choose(group, &loads);
                assert!(chosen < loads.len(), "{}", balancer.name());
                loads[chosen].work += Duration::from_nanos(group * 131 % 17);
                loads[chosen].warm = !loads[chosen].warm;
            }
        }
    }
}

#[test]
fn nobody_waits_for_a_slow_replica_while_others_are_free() {
    for mut balancer in informed() {
        let mut replicas: Vec<Load> = (0..4).map(Load::idle).collect();
        replicas[2].work = Duration::from_secs(1);
        let hits = (0..100).filter(|&group| balancer.choose(group, &replicas) == 2).count();
        assert_eq!(hits, 0, "{}", balancer.name());
    }
}

#[test]
fn looking_at_the_work_shortens_the_wait() {
    // Jobs of 1 and 20 units at 80 % of what four replicas can do, one of which is half as fast.
    let arrivals: Vec<Arrival> = (0..4000)
        .map(|n: u64| {
            let cost = Duration::from_micros(if n.wrapping_mul(0x9e37_79b9).is_multiple_of(10) { 2000 } else { 100 });
            Arrival { at: Time::from_nanos(n * 105_000), group: n % 3, cost }
        })
        .collect();
    let scenario = Scenario { speeds: vec![1.0, 1.0, 1.0, 0.5], cold: Duration::ZERO, warm_groups: 8 };
    let wait = |balancer: &mut dyn Balancer| simulate(&scenario, balancer, &arrivals).mean_wait();
    let blind = wait(&mut RoundRobin::new());
    for mut balancer in informed() {
        let informed = wait(&mut balancer);
        assert!(informed * 2 < blind, "{}: {informed:?} against {blind:?}", balancer.name());
    }
}

#[test]
fn locality_spares_cold_starts() {
    let arrivals: Vec<Arrival> = (0..4000)
        .map(|n: u64| Arrival { at: Time::from_nanos(n * 40_000), group: n * 7 % 12, cost: Duration::from_micros(100) })
        .collect();
    let scenario = Scenario { speeds: vec![1.0; 4], cold: Duration::from_micros(400), warm_groups: 4 };
    let cold = |balancer: &mut dyn Balancer| simulate(&scenario, balancer, &arrivals).cold_starts;
    let spread = cold(&mut LeastLoaded);
    let kept = cold(&mut Locality::new(Duration::from_micros(800)));
    assert!(kept * 4 < spread, "{kept} against {spread}");
}
