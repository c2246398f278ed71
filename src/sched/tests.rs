//! What every policy must keep, whatever it prefers; a new policy joins by a line in [`policies`].

use super::sim::{Fate, Poisson, Scenario, simulate};
use super::*;

fn policies() -> Vec<Box<dyn Policy>> {
    let ms = Duration::from_millis;
    vec![
        Box::new(FirstCome),
        Box::new(StrictPriority::new(ms(50))),
        Box::new(StrictPriority::new(ms(50)).separate()),
        Box::new(ShortestJob::new(ms(50))),
        Box::new(EarliestDeadline::new()),
        Box::new(FairShare::new(ms(1))),
        Box::new(Levels::new(FirstCome).level(1, Level::new().timeout(ms(20), TimeoutAction::Delay))),
        Box::new(Shares::new(FirstCome)),
    ]
}

/// Requests of mixed groups, rows, classes, tenants and deadlines.
fn crowd(count: usize, rate: f64, seed: u64, deadlines: bool) -> Vec<Waiting> {
    let mut arrivals = Poisson::new(rate, seed);
    let mut draw = Poisson::new(1.0, seed ^ 0xabcd);
    let mut pick = |n: u32| (draw.uniform() * f64::from(n)) as u32;
    (0..count)
        .map(|_| {
            let arrived = arrivals.next().unwrap();
            let late = Duration::from_micros(2_000 + u64::from(pick(200_000)));
            Waiting {
                group: pick(3).into(),
                tenant: pick(4).into(),
                rows: 1 + pick(3),
                priority: pick(3) as u8,
                deadline: if deadlines && pick(2) == 0 { arrived.after(late) } else { Time::NEVER },
                ..Waiting::at(arrived)
            }
        })
        .collect()
}

fn cost(group: u64, rows: u32) -> Duration {
    Duration::from_micros(200 + (50 + 20 * group) * u64::from(rows))
}

#[test]
fn a_decision_names_each_request_once_and_keeps_the_limits() {
    for mut policy in policies() {
        for seed in 0..40 {
            let waiting = crowd(1 + (seed as usize * 7) % 60, 1e5, seed, true);
            let limits = Limits { max_batch_size: 1 + seed as u32 % 9, ..Limits::default() };
            let mut decision = Decision::default();
            decision.clear();
            let now = waiting[waiting.len() - 1].arrived;
            policy.decide(&View::new(now, &waiting, &limits, &()), &mut decision);
            let name = policy.name();
            assert!(!decision.run.is_empty(), "{name} is not work-conserving");
            let mut named: Vec<_> = decision.run.iter().chain(&decision.drop).copied().collect();
            named.sort_unstable();
            named.dedup();
            assert_eq!(named.len(), decision.run.len() + decision.drop.len(), "{name} names one twice");
            assert!(named.iter().all(|&at| at < waiting.len()));
            let rows: u32 = decision.run.iter().map(|&at| waiting[at].rows).sum();
            assert!(rows <= limits.max_batch_size || decision.run.len() == 1, "{name}: {rows} rows");
            let group = waiting[decision.run[0]].group;
            assert!(decision.run.iter().all(|&at| waiting[at].group == group), "{name} mixes groups");
        }
    }
}

#[test]
fn equal_requests_run_in_order_of_arrival() {
    for mut policy in policies() {
        let waiting = vec![Waiting::at(Time::ZERO); 9];
        let limits = Limits { max_batch_size: 4, ..Limits::default() };
        let mut decision = Decision::default();
        policy.decide(&View::new(Time::ZERO, &waiting, &limits, &()), &mut decision);
        assert_eq!(decision.run, [0, 1, 2, 3], "{}", policy.name());
    }
}

#[test]
fn every_request_ends_once_and_nobody_starves() {
    for mut policy in policies() {
        // A little under what one server can do with full batches.
        let requests = crowd(3000, 4_000.0, 7, false);
        let limits = Limits { max_batch_size: 16, ..Limits::default() };
        let outcome = simulate(&Scenario { limits, ..Scenario::default() }, &mut *policy, requests, cost);
        let answered = outcome.fates.iter().filter(|fate| matches!(fate, Fate::Answered { .. })).count();
        assert_eq!(answered, 3000, "{}", policy.name());
        let worst = outcome.latencies(|_| true)[2999];
        assert!(worst < Duration::from_millis(500), "{}: {worst:?}", policy.name());
    }
}

#[test]
fn decisions_are_reproducible() {
    for (mut first, mut second) in policies().into_iter().zip(policies()) {
        let run = |policy: &mut dyn Policy| simulate(&Scenario::default(), policy, crowd(500, 9_000.0, 3, true), cost);
        assert_eq!(run(&mut *first), run(&mut *second), "{}", first.name());
    }
}

#[test]
fn a_delay_is_kept_by_every_policy() {
    for mut policy in policies() {
        let limits = Limits { max_batch_size: 8, max_queue_delay: Duration::from_millis(5), ..Limits::default() };
        let outcome =
            simulate(&Scenario { limits, ..Scenario::default() }, &mut *policy, vec![Waiting::at(Time::ZERO); 3], cost);
        assert_eq!((outcome.batches, outcome.mean_wait()), (1, Duration::from_millis(5)), "{}", policy.name());
    }
}

/// One server, batches of eight, 1 ms each: 8,000 requests a second at most.
fn overloaded(policy: &mut dyn Policy, share: f64) -> (f64, sim::Outcome) {
    let mut arrivals = Poisson::new(8_000.0 * share, 11);
    let requests = (0..10_000)
        .map(|_| {
            let arrived = arrivals.next().unwrap();
            Waiting { deadline: arrived.after(Duration::from_millis(20)), ..Waiting::at(arrived) }
        })
        .collect();
    let limits = Limits { max_batch_size: 8, ..Limits::default() };
    let scenario = Scenario { limits, queue_items: 100_000, ..Scenario::default() };
    let outcome = simulate(&scenario, policy, requests, |_, _| Duration::from_millis(1));
    (outcome.in_time() as f64 / (outcome.ended.as_nanos() as f64 / 1e9 * 8_000.0), outcome)
}

#[test]
fn earliest_deadline_keeps_its_goodput_under_overload() {
    let (goodput, _) = overloaded(&mut EarliestDeadline::new(), 1.5);
    assert!(goodput > 0.95, "{goodput}");
    let (goodput, _) = overloaded(&mut FirstCome, 1.5);
    assert!(goodput < 0.5, "first come for comparison: {goodput}");
}

#[test]
fn shortest_job_halves_the_mean_wait_of_mixed_jobs() {
    // Jobs of 1 ms and, one in ten, of 20 ms, one at a time, at 80 % load.
    let mut draw = Poisson::new(1.0, 6);
    let requests: Vec<_> = Poisson::new(0.8 / 0.0029, 5)
        .take(20_000)
        .map(|arrived| Waiting { group: if draw.uniform() < 0.1 { 20 } else { 1 }, ..Waiting::at(arrived) })
        .collect();
    let limits = Limits { max_batch_size: 1, ..Limits::default() };
    let scenario = Scenario { limits, queue_items: 100_000, ..Scenario::default() };
    let wait = |policy: &mut dyn Policy| {
        simulate(&scenario, policy, requests.clone(), |group, _| Duration::from_millis(group)).mean_wait()
    };
    let (first_come, shortest) = (wait(&mut FirstCome), wait(&mut ShortestJob::new(Duration::MAX)));
    assert!(shortest * 2 <= first_come, "{shortest:?} against {first_come:?}");
    // On two servers that takes interruptions: a short one waits for two long ones more often than for one of one.
    let requests: Vec<_> = requests.iter().map(|one| Waiting { arrived: half(one.arrived), ..*one }).collect();
    let preemption = Some(sim::Preemption { gain: 1.0, most: 64 });
    let two = Scenario { servers: 2, ..scenario };
    let wait = |scenario: &Scenario, policy: &mut dyn Policy| {
        simulate(scenario, policy, requests.clone(), |group, _| Duration::from_millis(group)).mean_wait()
    };
    let first_come = wait(&two, &mut FirstCome);
    let shortest = |scenario: &Scenario| wait(scenario, &mut ShortestJob::new(Duration::MAX));
    assert!(shortest(&two) * 5 <= first_come * 3, "{:?} against {first_come:?}", shortest(&two));
    let interrupting = shortest(&Scenario { preemption, ..two });
    assert!(interrupting * 4 <= first_come, "{interrupting:?} against {first_come:?}");
}

fn half(time: Time) -> Time {
    Time::from_nanos(time.as_nanos() / 2)
}

#[test]
fn a_tenfold_aggressor_leaves_the_victim_its_share() {
    // The victim asks for 45 % of the server, the aggressor for ten times that.
    let mut arrivals: Vec<_> = Poisson::new(3_600.0, 1).take(900).map(|at| (at, 0)).collect();
    arrivals.extend(Poisson::new(36_000.0, 2).take(9_000).map(|at| (at, 1)));
    arrivals.sort_unstable();
    let requests: Vec<_> =
        arrivals.iter().map(|&(arrived, tenant)| Waiting { tenant, ..Waiting::at(arrived) }).collect();
    let limits = Limits { max_batch_size: 8, look_ahead: 0, ..Limits::default() };
    let scenario = Scenario { limits, queue_items: 1_000_000, ..Scenario::default() };
    let mut policy = FairShare::new(Duration::from_micros(250));
    let outcome = simulate(&scenario, &mut policy, requests, |_, _| Duration::from_millis(1));
    let victim = outcome.latencies(|request| request.tenant == 0);
    assert!(victim[victim.len() * 99 / 100] < Duration::from_millis(20), "{:?}", victim[victim.len() * 99 / 100]);
}

#[test]
fn tenants_that_all_ask_for_more_get_the_same_and_one_that_asks_for_less_gets_it() {
    // 8,000 a second can be answered. Tenant 0 asks for 20,000, tenants 1 to 3 for 2,500 each, tenant 4 for 800.
    let rates = [20_000.0, 2_500.0, 2_500.0, 2_500.0, 800.0];
    let end = Time::from_nanos(300_000_000);
    let of = |(tenant, rate): (usize, f64)| {
        let arrivals = Poisson::new(rate, tenant as u64).take_while(|at| *at < end);
        arrivals.map(move |at| Waiting { tenant: tenant as u64, ..Waiting::at(at) })
    };
    let mut requests: Vec<_> = rates.into_iter().enumerate().flat_map(of).collect();
    requests.sort_by_key(|request| request.arrived);
    let limits = Limits { max_batch_size: 8, look_ahead: 0, ..Limits::default() };
    let scenario = Scenario { limits, queue_items: 1_000_000, ..Scenario::default() };
    let mut policy = FairShare::new(Duration::from_micros(250));
    let outcome = simulate(&scenario, &mut policy, requests, |_, _| Duration::from_millis(1));
    let mut answered = [0.0; 5];
    for (request, fate) in outcome.requests.iter().zip(&outcome.fates) {
        if matches!(fate, Fate::Answered { ended, .. } if *ended <= end) {
            answered[request.tenant as usize] += 1.0 / 0.3;
        }
    }
    // What the modest one leaves is shared out: 1,800 each.
    let parts = [1_800.0, 1_800.0, 1_800.0, 1_800.0, 800.0];
    let got: Vec<f64> = answered.iter().zip(parts).map(|(answered, part): (&f64, f64)| answered / part).collect();
    let (sum, squares) = (got.iter().sum::<f64>(), got.iter().map(|x| x * x).sum::<f64>());
    assert!(sum * sum / (5.0 * squares) >= 0.98 && got.iter().all(|&part| part >= 0.9), "{answered:?}");
}

#[test]
fn nobody_waits_for_longer_than_its_class_ages_and_the_queue_before_it_takes() {
    // One server, a millisecond each, and urgent requests for one and a half of it.
    let mut requests: Vec<_> =
        Poisson::new(1_500.0, 1).take(6_000).map(|at| Waiting { priority: 0, ..Waiting::at(at) }).collect();
    requests.extend(Poisson::new(50.0, 2).take(180).map(|at| Waiting { priority: 2, ..Waiting::at(at) }));
    requests.sort_by_key(|request| request.arrived);
    let limits = Limits { max_batch_size: 1, ..Limits::default() };
    let scenario = Scenario { limits, queue_items: 100, ..Scenario::default() };
    let longest = |ageing| {
        let mut policy = StrictPriority::new(ageing);
        let outcome = simulate(&scenario, &mut policy, requests.clone(), |_, _| Duration::from_millis(1));
        let latencies = outcome.latencies(|request| request.priority == 2);
        (latencies.len(), latencies.last().copied().unwrap_or_default())
    };
    let (answered, worst) = longest(Duration::from_millis(50));
    assert!(answered > 60 && worst <= Duration::from_millis(2 * 50 + 100 + 1), "{answered}: {worst:?}");
    let (_, worst) = longest(Duration::MAX);
    assert!(worst > Duration::from_secs(1), "without ageing: {worst:?}");
}
